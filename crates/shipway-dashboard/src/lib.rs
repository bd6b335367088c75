//! The pages: view models in, HTML out.
