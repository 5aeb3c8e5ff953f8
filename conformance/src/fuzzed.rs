//! Client of a fuzzing server: asks for the number of cases, echoes over a connection for each, and lets the reports be written.

use threadwire::Error;

use crate::faces::Face;

pub(crate) fn run(face: Face, url: &str, agent: &str) -> Result<(), Error> {
    let url = url.trim_end_matches('/');
    let agent = escape(agent);
    let count = face.ask(&format!("{url}/getCaseCount"))?;
    let count: u32 =
        count.trim().parse().map_err(|_| Error::other(format!("not a number of cases: {count:?}")))?;
    println!("{count} cases");
    for case in 1..=count {
        // A case may well break the connection, or not even open it: the server judges that.
        if let Err(error) = face.echo(&format!("{url}/runCase?case={case}&agent={agent}")) {
            println!("case {case}: {error}");
        }
    }
    face.echo(&format!("{url}/updateReports?agent={agent}"))
}

/// A value in a query.
fn escape(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}
