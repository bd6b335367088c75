//! Content-addressed blobs and the layers unpacked from them.
//!
//! A blob is a file named by the SHA-256 of its bytes; a layer is a blob that holds a plain tar archive, unpacked once and
//! shared by every dyno. [`Blobs`] writes and reads the first, [`Layers`] makes and unpacks the second, and [`archive`]
//! takes in archives of strangers: nothing here trusts what an archive or a directory says about itself.
//!
//! Symbolic links are never followed by this crate: directories are walked by descriptor, and archives are unpacked with
//! `openat2` below the directory that they belong to.

pub mod archive;
mod blobs;
mod layers;
mod pack;

pub use blobs::{BlobError, Blobs, Put};
pub use layers::Layers;
pub use pack::{PackError, PackLimits, PackSpec, Packed, pack, walk};
