//! Stage 5: what is durable.
