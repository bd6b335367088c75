//! The HTTP data plane: hosts to targets, nothing else.
