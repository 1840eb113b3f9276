//! Sockets: making them, and the addresses they speak of.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use bytes::Bytes;

use super::calls::check;
use crate::limits::{LISTEN_BACKLOG, SEGMENTS_AT_ONCE};

/// A socket address in the kernel's shape.
#[derive(Clone, Copy)]
pub(crate) struct Address {
    pub(crate) storage: libc::sockaddr_storage,
    pub(crate) length: libc::socklen_t,
}

/// Size of the storage for an address of any family.
const STORAGE_BYTES: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

const _: () = assert!(size_of::<libc::sockaddr_in>() <= size_of::<libc::sockaddr_storage>());
const _: () = assert!(size_of::<libc::sockaddr_in6>() <= size_of::<libc::sockaddr_storage>());
const _: () = assert!(align_of::<libc::sockaddr_in6>() <= align_of::<libc::sockaddr_storage>());

impl Address {
    /// Room for an address of any family.
    pub(crate) const fn empty() -> Self {
        // SAFETY: the storage is plain integers, for which zeros are a value.
        let storage = unsafe { MaybeUninit::<libc::sockaddr_storage>::zeroed().assume_init() };
        Self { storage, length: STORAGE_BYTES }
    }

    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut this = Self::empty();
        let start = &raw mut this.storage;
        match address {
            SocketAddr::V4(address) => {
                let native = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                // SAFETY: the storage is large and aligned enough (asserted above).
                unsafe { start.cast::<libc::sockaddr_in>().write(native) };
                this.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(address) => {
                let native = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                // SAFETY: the storage is large and aligned enough (asserted above).
                unsafe { start.cast::<libc::sockaddr_in6>().write(native) };
                this.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        this
    }

    /// The address that the kernel wrote.
    pub(crate) fn get(&self) -> io::Result<SocketAddr> {
        let start = &raw const self.storage;
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the storage is large and aligned enough (asserted above), initialised,
                // and the family says what it holds; all its fields are plain integers.
                let native = unsafe { start.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(u32::from_be(native.sin_addr.s_addr));
                Ok(SocketAddrV4::new(ip, u16::from_be(native.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let native = unsafe { start.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(native.sin6_addr.s6_addr);
                let port = u16::from_be(native.sin6_port);
                let (flow, scope) = (native.sin6_flowinfo, native.sin6_scope_id);
                Ok(SocketAddrV6::new(ip, port, flow, scope).into())
            }
            family => Err(io::Error::other(format!("an address of family {family}"))),
        }
    }
}

/// A TCP socket for addresses like `address`.
pub(crate) fn socket(address: SocketAddr, nonblocking: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let blocking = if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | blocking;
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the descriptor was just opened and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A socket that listens on `address`, and the address with its port filled in.
///
/// `SO_REUSEADDR` lets a restarted process listen while connections of the former one linger; on
/// Linux it does not let two sockets listen on one address. `SO_REUSEPORT` would, and is not set.
pub(crate) fn listen(address: SocketAddr, nonblocking: bool) -> io::Result<(OwnedFd, SocketAddr)> {
    let fd = socket(address, nonblocking)?;
    set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the machine's default is.
        set_option(fd.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    let native = Address::new(address);
    // SAFETY: `native` is readable for the length it states.
    check(unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const native.storage).cast(), native.length)
    })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::listen(fd.as_raw_fd(), LISTEN_BACKLOG) })?;
    let local = local_address(fd.as_raw_fd())?;
    Ok((fd, local))
}

fn local_address(fd: RawFd) -> io::Result<SocketAddr> {
    let mut native = Address::empty();
    // SAFETY: the storage is writable for the length stated.
    check(unsafe {
        libc::getsockname(fd, (&raw mut native.storage).cast(), &raw mut native.length)
    })?;
    native.get()
}

/// Sends small writes at once.
pub(crate) fn set_no_delay(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// A segment in the kernel's shape: an address that is only read through.
pub(crate) fn piece(segment: &Bytes) -> libc::iovec {
    libc::iovec { iov_base: segment.as_ptr().cast_mut().cast(), iov_len: segment.len() }
}

/// Sends what the kernel takes at once of some segments, at most [`SEGMENTS_AT_ONCE`] of them.
/// Returns how many bytes that was; zero if it has no room now.
pub(crate) fn send_at_once(fd: RawFd, segments: &[Bytes]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let sent = if let [segment] = segments {
        // SAFETY: the segment is readable for its length.
        unsafe { libc::send(fd, segment.as_ptr().cast(), segment.len(), flags) }
    } else {
        let mut pieces = [piece(&Bytes::new()); SEGMENTS_AT_ONCE];
        let count = segments.len().min(SEGMENTS_AT_ONCE);
        for (place, segment) in pieces.iter_mut().zip(segments) {
            *place = piece(segment);
        }
        // SAFETY: a message header is integers and pointers, for which zeros are a value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = pieces.as_mut_ptr();
        header.msg_iovlen = count;
        // SAFETY:
        // 1. The header and the pieces it points at are readable until the call returns.
        // 2. The first `count` pieces are those of segments, each readable for its length.
        unsafe { libc::sendmsg(fd, &raw const header, flags) }
    };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        },
    }
}

fn set_option(fd: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` is readable and of the size given.
    check(unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), size) })?;
    Ok(())
}

/// Ends the sending direction.
pub(crate) fn shutdown(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::shutdown(fd, libc::SHUT_WR) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_shape() {
        for text in ["127.0.0.1:80", "255.1.2.3:65535", "[::1]:9092", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(Address::new(address).get().expect("the same"), address);
        }
        assert!(Address::empty().get().is_err());
    }

    #[test]
    fn two_sockets_never_listen_on_one_address() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let (_first, local) = listen(any, false).expect("a free port");
        let error = listen(local, false).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
