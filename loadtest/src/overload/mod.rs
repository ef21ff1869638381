//! What is left of a server that is asked for many times what it can do? Its capacity is measured first, in a
//! closed loop; then heavy users ask by the clock for a multiple of that, a few light users ask now and then, and
//! somebody looks at the health routes.
//!
//! | module | subject |
//! |---|---|
//! | [`scenario`] | who asks how much, and what is good enough |
//! | [`run`] | the two stretches |
//! | [`report`] | what is written and printed |

pub mod report;
pub mod run;
pub mod scenario;
