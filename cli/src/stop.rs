//! `fakessh stop`: ends the master.

use fakessh::daemon::client::Client;
use fakessh::runtime_dir::RuntimeDir;

pub(super) fn stop() -> anyhow::Result<u8> {
    let client = match Client::connect(&RuntimeDir::of_user()?) {
        Err(error) if super::is_no_master(&error) => return Ok(0),
        client => client?,
    };
    client.stop()?;
    Ok(0)
}
