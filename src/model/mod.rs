//! One decoder for every family: weights in, packed rows through, logits out.
