//! What this machine can and cannot do for dynos, in sentences.
