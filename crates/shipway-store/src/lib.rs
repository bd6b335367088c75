//! The platform's own state: SQLite, sealed secrets, content-addressed blobs.
