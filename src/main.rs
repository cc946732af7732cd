//! The program. Everything is in the library.

fn main() -> std::process::ExitCode {
    message_contact_operator::cli::main()
}
