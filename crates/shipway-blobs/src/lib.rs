//! Content-addressed blobs and the layers unpacked from them.
