//! Compression settings, as given on the command line.

use std::sync::OnceLock;

use threadwire::Deflate;

/// The compression settings of this run, if given.
static CHOSEN: OnceLock<Option<Deflate>> = OnceLock::new();

/// Takes `deflate` for all connections of this run. Has no effect the second time.
pub(crate) fn choose(Settings(deflate): Settings) {
    let _ = CHOSEN.set(deflate);
}

/// The compression that connections of this run offer or accept.
pub(crate) fn deflate() -> Option<Deflate> {
    CHOSEN.get().cloned().unwrap_or_else(|| Some(Deflate::default()))
}

/// Compression and its settings; `None` is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings(Option<Deflate>);

impl std::str::FromStr for Settings {
    type Err = String;

    /// Reads `off`, `default`, or parameters as they are in the header, with `level`, `mem_level` and `threshold` beside them.
    fn from_str(text: &str) -> Result<Settings, String> {
        match text.trim() {
            "off" => return Ok(Settings(None)),
            "default" => return Ok(Settings(Some(Deflate::default()))),
            _ => {}
        }
        let mut deflate = Deflate::default();
        for part in text.split(';').map(str::trim) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (part, None),
            };
            let number = |least: usize, most: usize| match value.unwrap_or_default().parse() {
                Ok(number) if (least..=most).contains(&number) => Ok(number),
                _ => Err(format!("{part:?}: expected a number from {least} to {most}")),
            };
            deflate = match name {
                "server_no_context_takeover" if value.is_none() => deflate.server_no_context_takeover(true),
                "client_no_context_takeover" if value.is_none() => deflate.client_no_context_takeover(true),
                "server_max_window_bits" => deflate.server_max_window_bits(number(9, 15)? as u8),
                "client_max_window_bits" => deflate.client_max_window_bits(number(9, 15)? as u8),
                "level" => deflate.level(number(1, 9)? as u8),
                "mem_level" => deflate.mem_level(number(1, 9)? as u8),
                "threshold" => deflate.threshold(number(0, usize::MAX)?),
                _ => return Err(format!("{part:?} is no setting of compression")),
            };
        }
        Ok(Settings(Some(deflate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_are_in_the_header() {
        let read = |text: &str| text.parse::<Settings>().unwrap().0;
        assert_eq!(read("off"), None);
        assert_eq!(read("default"), Some(Deflate::default()));
        assert_eq!(
            read("server_max_window_bits=9; client_no_context_takeover; level=6;threshold=0"),
            Some(
                Deflate::new()
                    .server_max_window_bits(9)
                    .client_no_context_takeover(true)
                    .level(6)
                    .threshold(0)
            )
        );
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for text in [
            "",
            "bogus",
            "level",
            "level=10",
            "server_max_window_bits=8",
            "client_max_window_bits",
            "client_no_context_takeover=1",
        ] {
            assert!(text.parse::<Settings>().is_err(), "{text:?}");
        }
    }
}
