//! `attune-train`: preferences become adapter versions. The trainer itself is still to come; this
//! program says so instead of pretending.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Nothing can be done if even this cannot be written.
    let _ = writeln!(
        std::io::stderr(),
        "attune-train: training is not part of this release. `attune serve` answers with versions \
         that `attune adapter import` takes over from PEFT checkpoints."
    );
    ExitCode::FAILURE
}
