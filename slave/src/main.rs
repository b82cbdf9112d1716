//! The program: hands its arguments to the library and ends with its status.

fn main() {
    std::process::exit(i32::from(fakessh_slave::run(std::env::args_os().collect())));
}
