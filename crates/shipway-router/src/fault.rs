//! What can go wrong with a request, in Heroku's numbers and words.
//!
//! Source: Heroku Dev Center, "Heroku Error Codes".

use http::StatusCode;
use std::io;

/// Why a request was not answered by its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// All web dynos are crashed.
    H10,
    /// Too many requests wait for a dyno.
    H11,
    /// No answer within 30 s.
    H12,
    /// The dyno closed the connection without an answer.
    H13,
    /// No web dyno is running.
    H14,
    /// No byte moved for 55 s.
    H15,
    /// The dyno's answer was not HTTP.
    H17,
    /// The dyno closed the connection in the middle.
    H18,
    /// No connection to the dyno in time.
    H19,
    /// No dyno was up within 75 s.
    H20,
    /// The dyno refused the connection.
    H21,
    /// The request is not HTTP, or asks for what there is not.
    H26(Cause),
    /// The client left before it had its answer.
    H27,
    /// The client stopped sending its request.
    H28,
    /// The app is in maintenance.
    H80,
    /// The app was never deployed.
    H81,
    /// The router itself could not go on.
    H99,
}

/// What is wrong with a request of which the app is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An `Expect` header with something other than `100-continue`.
    Expectation,
    /// A chunk of the body that cannot be read.
    Chunk,
}

impl Fault {
    /// What it is that there is no connection to a dyno. What the dyno or its network did not do is ours: no descriptors
    /// are left, or no memory, or no ports.
    pub fn of_connect(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::TimedOut => Self::H19,
            Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown => Self::H21,
            _ => Self::H99,
        }
    }

    /// The code and description of the log line.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::H10 => ("H10", "App crashed"),
            Self::H11 => ("H11", "Backlog too deep"),
            Self::H12 => ("H12", "Request timeout"),
            Self::H13 => ("H13", "Connection closed without response"),
            Self::H14 => ("H14", "No web processes running"),
            Self::H15 => ("H15", "Idle connection"),
            Self::H17 => ("H17", "Poorly formatted HTTP response"),
            Self::H18 => ("H18", "Server Request Interrupted"),
            Self::H19 => ("H19", "Backend connection timeout"),
            Self::H20 => ("H20", "App boot timeout"),
            Self::H21 => ("H21", "Backend connection refused"),
            Self::H26(_) => ("H26", "Request Error"),
            Self::H27 => ("H27", "Client Request Interrupted"),
            Self::H28 => ("H28", "Client Connection Idle"),
            Self::H80 => ("H80", "Maintenance mode"),
            Self::H81 => ("H81", "Blank app"),
            Self::H99 => ("H99", "Platform error"),
        }
    }

    /// The status that the client gets, and the log line shows.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::H26(Cause::Expectation) => StatusCode::EXPECTATION_FAILED,
            Self::H26(Cause::Chunk) => StatusCode::BAD_REQUEST,
            Self::H28 => StatusCode::REQUEST_TIMEOUT,
            Self::H81 => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The status in the log line: 499, as at Heroku, when it was the client that left or went silent.
    pub const fn logged_status(self) -> u16 {
        match self {
            Self::H27 | Self::H28 => 499,
            fault => fault.status().as_u16(),
        }
    }

    /// `at=` of the log line: what the owner or the visitor chose is no error.
    pub const fn level(self) -> &'static str {
        match self {
            Self::H80 | Self::H81 => "info",
            Self::H27 | Self::H28 => "warning",
            _ => "error",
        }
    }

    /// `sock=` of the log line: whose connection broke off.
    pub const fn sock(self) -> Option<&'static str> {
        match self {
            Self::H18 => Some("backend"),
            Self::H27 => Some("client"),
            _ => None,
        }
    }

    /// `cause=` of the log line.
    pub const fn cause(self) -> Option<&'static str> {
        match self {
            Self::H26(Cause::Expectation) => Some("unsupported expect header value"),
            Self::H26(Cause::Chunk) => Some("bad chunk"),
            _ => None,
        }
    }
}
