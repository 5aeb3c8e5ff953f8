//! Close codes (RFC 6455, section 7.4).

use std::fmt;

/// Why a connection was closed: a number with an agreed meaning (RFC 6455, section 7.4, and the registry it began).
/// 3000-3999 are for frameworks, and 4000-4999 for programs.
///
/// ```
/// use threadwire_proto::CloseCode;
/// assert_eq!(CloseCode::GOING_AWAY.to_string(), "1001 (going away)");
/// assert_eq!(CloseCode::new(4000).to_string(), "4000");
/// assert_eq!(CloseCode::from(1001), CloseCode::GOING_AWAY);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection was fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// 1001: the server goes down, or the page was left.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// 1003: a type of data that is not accepted.
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// 1005: the close frame had no code. Only reported, never sent.
    pub const NO_STATUS: CloseCode = CloseCode(1005);
    /// 1006: there was no close frame. Only reported, never sent.
    pub const ABNORMAL: CloseCode = CloseCode(1006);
    /// 1007: data that does not fit its type, such as text that is not UTF-8.
    pub const INVALID_DATA: CloseCode = CloseCode(1007);
    /// 1008: the message breaks a policy.
    pub const POLICY: CloseCode = CloseCode(1008);
    /// 1009: the message is too big.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    /// 1010: the server lacks an extension that the client needs.
    pub const MISSING_EXTENSION: CloseCode = CloseCode(1010);
    /// 1011: the server met something it did not expect.
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    /// 1012: the server restarts.
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    /// 1013: the server is overloaded; try again later.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
    /// 1014: a gateway got a bad answer.
    pub const BAD_GATEWAY: CloseCode = CloseCode(1014);

    /// The code with this number, whether or not it may be sent.
    pub const fn new(number: u16) -> CloseCode {
        CloseCode(number)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether a close frame may carry it: 1000-1003, 1007-1014 and 3000-4999.
    ///
    /// ```
    /// use threadwire_proto::CloseCode;
    /// assert!(CloseCode::NORMAL.may_be_sent());
    /// assert!(CloseCode::new(4000).may_be_sent());
    /// assert!(!CloseCode::ABNORMAL.may_be_sent());
    /// ```
    pub const fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// The registered meaning in a few words, if the code has one.
    pub const fn meaning(self) -> Option<&'static str> {
        Some(match self.0 {
            1000 => "normal closure",
            1001 => "going away",
            1002 => "protocol error",
            1003 => "unsupported data",
            1005 => "no code received",
            1006 => "no close frame received",
            1007 => "invalid data",
            1008 => "policy violation",
            1009 => "message too big",
            1010 => "extension missing",
            1011 => "internal error",
            1012 => "service restart",
            1013 => "try again later",
            1014 => "bad gateway",
            1015 => "TLS handshake failed",
            _ => return None,
        })
    }
}

impl From<u16> for CloseCode {
    fn from(number: u16) -> CloseCode {
        CloseCode(number)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meaning() {
            Some(meaning) => write!(f, "{} ({meaning})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
