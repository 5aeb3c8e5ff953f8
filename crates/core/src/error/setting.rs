//! Settings that can't be heeded.

/// A setting that the way in which a connection is opened or served can't heed. It is refused rather than passed over in silence.
///
/// ```
/// use threadwire::{Client, Config, Error, blocking};
///
/// let client = Client::new("ws://example.com/")?.config(Config::default().auto_pong(false));
/// match blocking::connect(&client) {
///     Err(Error::Setting(error)) => assert_eq!(error.setting, "Config::auto_pong"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{way} can't heed {setting}: {instead}")]
#[non_exhaustive]
pub struct SettingError {
    /// The setting: `Config::auto_pong`.
    pub setting: &'static str,
    /// The way that does not heed it: `a blocking connection`.
    pub way: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}
