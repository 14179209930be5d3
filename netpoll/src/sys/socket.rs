//! Sockets: set-up through `socket2`, transfer of bytes by plain calls.

use crate::ListenerConfig;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Opens a non-blocking listener with `SO_REUSEPORT`, so that each worker has its own; accepted
/// sockets inherit its options.
pub(crate) fn listen(config: &ListenerConfig) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(config.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if config.address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(config.user_timeout)?;
    if let Some(bytes) = config.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = config.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = config.not_sent_low_water {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    socket.bind(&config.address.into())?;
    socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((socket.into(), address))
}

/// Makes a listener wait instead of failing with EAGAIN: io_uring obeys O_NONBLOCK.
pub(crate) fn set_blocking(listener: &OwnedFd) -> io::Result<()> {
    socket2::SockRef::from(listener).set_nonblocking(false)
}

/// A non-blocking socket bound to `local`, ready to connect. With a port of 0 the kernel picks one
/// when it knows the remote address (`IP_BIND_ADDRESS_NO_PORT`), so that 28 000 ports serve each
/// pair of addresses, not all of them.
pub(crate) fn client(local: Option<SocketAddr>, remote: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(local) = local {
        if local.port() == 0 && local.is_ipv4() {
            set_bind_address_no_port(&socket)?;
        }
        socket.bind(&local.into())?;
    }
    Ok(socket.into())
}

/// Starts to connect. `Ok(false)`: the socket becomes writable when the outcome is known.
pub(crate) fn connect(socket: &OwnedFd, remote: SocketAddr) -> io::Result<bool> {
    match rustix::net::connect(socket, &remote) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INPROGRESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the pending error of a socket (`SO_ERROR`).
pub(crate) fn take_error(socket: &OwnedFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(socket)??)
}

pub(crate) fn receive(socket: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
    let (count, _) = rustix::net::recv(socket, into, RecvFlags::DONTWAIT)?;
    Ok(count)
}

/// At most so many bytes are dropped by one [`discard`].
pub(crate) const DISCARD_MAX: usize = 16 << 10;

/// Drops what can be received; 0 is the peer's FIN. With MSG_TRUNC, tcp(7), the bytes are skipped.
pub(crate) fn discard(socket: &OwnedFd) -> io::Result<usize> {
    let mut nowhere = [0; DISCARD_MAX];
    let (count, _) = rustix::net::recv(socket, &mut nowhere, RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
    Ok(count)
}

pub(crate) fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

pub(crate) fn send_vectored(socket: &OwnedFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags)?)
}

pub(crate) fn shutdown_write(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, rustix::net::Shutdown::Write)?)
}

/// Accepts one connection, non-blocking.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<(OwnedFd, SocketAddr)> {
    use rustix::net::SocketFlags;
    let (socket, peer) =
        rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((socket, peer.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))))
}

/// `IP_BIND_ADDRESS_NO_PORT`, ip(7): leaves the choice of the port to `connect(2)`.
#[allow(unsafe_code)]
fn set_bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option reads one c_int from a live local of that
    // size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends listening at once, whatever else holds the socket: shutdown(2) takes it out of its port's
/// group, and resets what waits in its backlog.
pub(crate) fn stop_listening(listener: &OwnedFd) {
    // It can't fail on a listener.
    let _ = socket2::SockRef::from(listener).shutdown(std::net::Shutdown::Both);
}
