//! Close codes and the payload of a close frame (RFC 6455, sections 5.5.1 and 7.4).

use std::fmt;

use crate::{SendError, Violation};

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

/// The longest reason that fits a close frame beside its code, in bytes.
pub const MAX_REASON: usize = 123;

/// What a close frame says. No code means an empty payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The code, if there is one.
    pub code: Option<CloseCode>,
    /// The reason; empty if there is none. Meant for logs, not for people.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads the payload of a close frame that the peer sent: nothing, or two bytes of code in network order and a
    /// reason.
    ///
    /// ```
    /// use threadwire_proto::{CloseCode, CloseFrame, Violation};
    /// let close = CloseFrame::parse(b"\x03\xe8bye").unwrap();
    /// assert_eq!((close.code, close.reason), (Some(CloseCode::NORMAL), "bye"));
    /// assert_eq!(CloseFrame::parse(b"\x03"), Err(Violation::CloseCodeCut));
    /// assert_eq!(CloseFrame::parse(b"\x03\xee"), Err(Violation::CloseCodeInvalid(1006)));
    /// ```
    pub fn parse(payload: &'a [u8]) -> Result<CloseFrame<'a>, Violation> {
        match payload {
            [] => Ok(CloseFrame { code: None, reason: "" }),
            [_] => Err(Violation::CloseCodeCut),
            [high, low, reason @ ..] => {
                let code = CloseCode(u16::from_be_bytes([*high, *low]));
                if !code.may_be_sent() {
                    return Err(Violation::CloseCodeInvalid(code.0));
                }
                let reason = std::str::from_utf8(reason).map_err(|_| Violation::CloseReasonNotUtf8)?;
                Ok(CloseFrame { code: Some(code), reason })
            }
        }
    }

    /// Checks that we may send it: a code that may be sent, a reason only with a code, and one that fits.
    ///
    /// ```
    /// use threadwire_proto::{CloseCode, CloseFrame, SendError};
    /// let close = |code, reason| CloseFrame { code: Some(CloseCode::new(code)), reason };
    /// assert_eq!(close(1000, "bye").check(), Ok(()));
    /// assert_eq!(close(1006, "").check(), Err(SendError::CloseCodeInvalid(1006)));
    /// assert!(close(1000, &"b".repeat(124)).check().is_err(), "with its code it takes 126 bytes");
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::CloseCodeInvalid`], [`SendError::ReasonWithoutCode`] or [`SendError::ControlTooLong`].
    pub fn check(&self) -> Result<(), SendError> {
        match self.code {
            None if self.reason.is_empty() => Ok(()),
            None => Err(SendError::ReasonWithoutCode),
            Some(code) if !code.may_be_sent() => Err(SendError::CloseCodeInvalid(code.0)),
            Some(_) if self.reason.len() > MAX_REASON => {
                Err(SendError::ControlTooLong { opcode: crate::OpCode::Close, length: 2 + self.reason.len() })
            }
            Some(_) => Ok(()),
        }
    }

    /// The payload, in a buffer large enough for any, and its length. The frame must have passed
    /// [`check`](CloseFrame::check).
    pub(crate) fn payload(&self) -> ([u8; 125], usize) {
        let mut bytes = [0; 125];
        let Some(code) = self.code else { return (bytes, 0) };
        bytes[..2].copy_from_slice(&code.0.to_be_bytes());
        bytes[2..2 + self.reason.len()].copy_from_slice(self.reason.as_bytes());
        (bytes, 2 + self.reason.len())
    }
}

/// As much of a reason as fits a close frame, cut at a character.
///
/// ```
/// use threadwire_proto::close::fit_reason;
/// assert_eq!(fit_reason("short"), "short");
/// assert_eq!(fit_reason(&"é".repeat(100)).len(), 122);
/// ```
pub fn fit_reason(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_exactly_the_codes_that_may_be_sent() {
        for number in 0..=u16::MAX {
            let expected = (1000..=1003).contains(&number)
                || (1007..=1014).contains(&number)
                || (3000..=4999).contains(&number);
            let frame = number.to_be_bytes();
            assert_eq!(CloseFrame::parse(&frame).is_ok(), expected, "received {number}");
            let own = CloseFrame { code: Some(CloseCode(number)), reason: "" };
            assert_eq!(own.check().is_ok(), expected, "sent {number}");
        }
    }

    #[test]
    fn refuses_a_reason_that_is_not_utf8() {
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xff"), Err(Violation::CloseReasonNotUtf8));
        assert_eq!(Violation::CloseReasonNotUtf8.code(), CloseCode::INVALID_DATA);
    }

    #[test]
    fn what_it_encodes_it_parses() {
        let reason = "r".repeat(MAX_REASON);
        for frame in [
            CloseFrame { code: None, reason: "" },
            CloseFrame { code: Some(CloseCode::NORMAL), reason: "" },
            CloseFrame { code: Some(CloseCode::new(4999)), reason: &reason },
        ] {
            frame.check().unwrap();
            let (bytes, length) = frame.payload();
            assert_eq!(CloseFrame::parse(&bytes[..length]), Ok(frame));
        }
    }

    #[test]
    fn refuses_to_send_what_does_not_fit() {
        let long = "r".repeat(MAX_REASON + 1);
        let frame = CloseFrame { code: Some(CloseCode::NORMAL), reason: &long };
        assert_eq!(
            frame.check(),
            Err(SendError::ControlTooLong { opcode: crate::OpCode::Close, length: 126 })
        );
        assert_eq!(CloseFrame { code: None, reason: "x" }.check(), Err(SendError::ReasonWithoutCode));
    }
}
