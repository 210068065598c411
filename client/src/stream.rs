//! One open byte stream with its read buffer. Reads and writes from one task, whichever can go on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use crate::connector::BoxedStream;

/// Bytes asked for in one read, at first and at most: an idle connection stays small.
const READ: (usize, usize) = (4 << 10, 128 << 10);

/// What came of a turn.
#[derive(Debug)]
pub(crate) enum Io {
    /// There is more in the input.
    Read,
    /// Some of the output is gone.
    Wrote,
    /// The stream has ended.
    End(String),
}

/// The stream.
pub(crate) struct Wire {
    stream: BoxedStream,
    pub(crate) input: BytesMut,
    read: usize,
    unflushed: bool,
}

impl Wire {
    pub(crate) fn new(stream: BoxedStream) -> Self {
        Self { stream, input: BytesMut::new(), read: READ.0, unflushed: false }
    }

    /// Writes what is there to write, else reads, if it may.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, out: &mut BytesMut, may_read: bool) -> Poll<Io> {
        if !out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, out) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Io::End("the connection takes no bytes".to_owned()));
                }
                Poll::Ready(Ok(count)) => {
                    out.advance(count);
                    self.unflushed = true;
                    return Poll::Ready(Io::Wrote);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Io::End(format!("write: {error}"))),
                Poll::Pending => {}
            }
        } else if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Io::End(format!("write: {error}"))),
                Poll::Pending => {}
            }
        }
        if !may_read {
            return Poll::Pending;
        }
        match ready!(self.poll_read(context)) {
            Ok(0) => Poll::Ready(Io::End("the node closed the connection".to_owned())),
            Ok(_) => Poll::Ready(Io::Read),
            Err(error) => Poll::Ready(Io::End(format!("read: {error}"))),
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.read);
        let stream = Pin::new(&mut self.stream);
        let count = ready!(poll_read_buf(stream, context, &mut self.input))?;
        if count >= self.read {
            self.read = (2 * self.read).min(READ.1);
        } else if count < self.read / 8 {
            self.read = (self.read / 2).max(READ.0);
        }
        Poll::Ready(Ok(count))
    }

    /// Writes all that is left and closes the writing side.
    pub(crate) async fn finish(&mut self, out: &mut BytesMut) -> io::Result<()> {
        self.stream.write_all_buf(out).await?;
        self.stream.shutdown().await
    }
}
