//! As much HTTP/1.1 as the API needs, by hand: faults must be able to cut, drop and reset.

use std::fmt::Write as _;
use std::io;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wire::Request;
use crate::world::Answer;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connection that requests come in on, one after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Read, but not yet part of a request.
    buffer: Vec<u8>,
}

/// A request and what HTTP says about it.
pub(crate) struct Incoming {
    pub(crate) request: Request,
    pub(crate) bytes: usize,
    pub(crate) keep_alive: bool,
}

impl Connection {
    /// Takes over a stream; small answers leave at once.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The next request; none if the client has closed.
    ///
    /// # Errors
    /// If the connection breaks, or what comes is not HTTP.
    pub(crate) async fn read(&mut self) -> io::Result<Option<Incoming>> {
        let head_len = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(malformed("the headers are too long"));
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        };
        let head: Vec<_> = self.buffer.drain(..head_len).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let (mut request, version) = parse_head(&head)?;
        let has = |name: &str, token: &str| {
            let value = request.header(name).unwrap_or_default().to_ascii_lowercase();
            value.split(',').any(|part| part.trim() == token)
        };
        let keep_alive = version == "HTTP/1.1" && !has("connection", "close");
        if has("expect", "100-continue") {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body_len = if has("transfer-encoding", "chunked") {
            self.read_chunked(&mut request.body).await?
        } else {
            let length = request.header("content-length");
            let length = length.map_or(Ok(0), |length| length.parse());
            let length = length.map_err(|_| malformed("the content length is no number"))?;
            request.body = self.take(length).await?;
            length
        };
        Ok(Some(Incoming { request, bytes: head_len + body_len, keep_alive }))
    }

    /// Writes an answer, or its headers and the first `body_bytes` of its body. Returns how many
    /// bytes went out.
    pub(crate) async fn write(
        &mut self,
        answer: &Answer,
        body_bytes: usize,
        keep_alive: bool,
    ) -> io::Result<usize> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        for (name, value) in &answer.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let _ = write!(
            head,
            "Date: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            http_date(answer.date),
            answer.body.len(),
        );
        let mut bytes = head.into_bytes();
        bytes.extend(answer.body.iter().take(body_bytes));
        self.stream.write_all(&bytes).await?;
        Ok(bytes.len())
    }

    /// Closes the connection in order.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > BODY_BYTES_MAX {
            return Err(malformed("the body is too long"));
        }
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<_> = self.buffer.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.buffer.len() > HEAD_BYTES_MAX || self.fill().await? == 0 {
                return Err(malformed("a chunk has no length"));
            }
        }
    }

    async fn read_chunked(&mut self, body: &mut Vec<u8>) -> io::Result<usize> {
        let mut read = 0;
        loop {
            let line = self.line().await?;
            read += line.len() + 2;
            let length = usize::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                .map_err(|_| malformed("a chunk's length is no number"))?;
            if length == 0 {
                break;
            }
            if body.len() + length > BODY_BYTES_MAX {
                return Err(malformed("the body is too long"));
            }
            body.extend(self.take(length).await?);
            self.take(2).await?;
            read += length + 2;
        }
        while !self.line().await?.is_empty() {}
        Ok(read + 2)
    }
}

fn parse_head(head: &str) -> io::Result<(Request, String)> {
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap_or("").split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (first.next(), first.next(), first.next(), first.next())
    else {
        return Err(malformed("the first line is not HTTP"));
    };
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    let headers: Option<Vec<_>> = lines.map(header).collect();
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: headers.ok_or_else(|| malformed("a header has no colon"))?,
        body: Vec::new(),
    };
    Ok((request, version.to_owned()))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn http_date(at: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
