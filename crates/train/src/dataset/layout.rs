//! Which fields the records of a file have.

use std::fmt;

use serde::Serialize;

/// How the records of a file are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A prompt and two texts.
    Texts,
    /// A prompt and two lists of one message.
    Messages,
    /// Two whole conversations.
    Conversations,
    /// The P-RLHF authors' P-SOUPS file.
    Psoups,
    /// The P-RLHF authors' PRISM files.
    Prism,
    /// The export of a server's store.
    Snapshot,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Texts => "texts",
            Self::Messages => "messages",
            Self::Conversations => "conversations",
            Self::Psoups => "P-SOUPS",
            Self::Prism => "PRISM",
            Self::Snapshot => "snapshot",
        })
    }
}
