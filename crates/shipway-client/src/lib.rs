//! The client half: env, heroku, doctor, credential helper. No Linux-only part.
