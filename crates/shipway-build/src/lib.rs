//! Buildpacks and layers: from a commit's tree to an artifact.
