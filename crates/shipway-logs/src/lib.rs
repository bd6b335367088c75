//! Log segments: one append-only chain per writer, merged by readers.
