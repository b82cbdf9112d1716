//! Holds SSH connections open and lets every program that runs `ssh` use them.
