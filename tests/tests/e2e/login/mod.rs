//! Logging in as ssh does: host keys, certificates, and what is said about them.

mod known_hosts_command;
