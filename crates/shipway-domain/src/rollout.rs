//! What to start and what to stop, from what is wanted and what is seen.
