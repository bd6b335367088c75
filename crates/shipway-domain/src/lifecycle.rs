//! Lifecycles as the API shows them, and which of their states are final.

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// All of them, in their order.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// The state as the API and the database write it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
            /// Reads what [`Self::as_str`] wrote.
            pub fn from_text(s: &str) -> Option<Self> {
                match s { $($text => Some(Self::$variant),)* _ => None }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use states;

states! {
    /// A build's state.
    BuildStatus {
        /// It is queued or runs.
        Pending = "pending",
        /// Its artifact is in the store.
        Succeeded = "succeeded",
        /// It ended without an artifact; the reason is kept beside it.
        Failed = "failed",
    }
}

states! {
    /// A release's state. One that failed or expired keeps its number and never becomes current.
    ReleaseStatus {
        /// Its release phase or its start runs.
        Pending = "pending",
        /// It is or was current.
        Succeeded = "succeeded",
        /// Its release phase failed, or its dynos did not become healthy.
        Failed = "failed",
        /// It did not fail and never ran: another app of its promotion failed, or somebody stopped all of it.
        Expired = "expired",
    }
}

states! {
    /// A dyno's state, in the Platform API's words.
    DynoState {
        /// Its process was started and is not known to be ready.
        Starting = "starting",
        /// It is ready.
        Up = "up",
        /// It ended by itself and will be started again after a back-off.
        Crashed = "crashed",
        /// It is being stopped: no new requests, SIGTERM sent.
        Stopping = "stopping",
        /// It is gone.
        Down = "down",
    }
}

states! {
    /// An operation's state, derived from its journal.
    OperationStatus {
        /// It waits for the app's lock.
        Waiting = "waiting",
        /// A step runs, or would run if the server did.
        Running = "running",
        /// A step failed; the steps before it are being undone.
        Unwinding = "unwinding",
        /// All steps are done.
        Succeeded = "succeeded",
        /// It was undone, or failed where nothing needed undoing.
        Failed = "failed",
    }
}

impl OperationStatus {
    /// Whether nothing further will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}
