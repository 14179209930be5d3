//! A [`SharedBuffer`] as [`Bytes`], the type that libraries take: a body of an HTTP answer, a
//! message for a bus. The bytes stay in their block.

use crate::SharedBuffer;
use bytes::Bytes;

struct Owner(SharedBuffer);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The same bytes at the same address. The block returns to its pool when the last clone or slice
/// is dropped, on any thread. Allocates a few words for the owner, so it is not for a worker's
/// thread.
impl From<SharedBuffer> for Bytes {
    fn from(buffer: SharedBuffer) -> Bytes {
        Bytes::from_owner(Owner(buffer))
    }
}

#[cfg(test)]
mod tests {
    use crate::{BufferPools, PoolSize, PoolsConfig};
    use bytes::Bytes;

    #[test]
    fn bytes_are_the_block_itself_and_return_it_from_any_thread() {
        let mut pools = BufferPools::new(&PoolsConfig {
            receive: PoolSize { size: 2048, count: 2 },
            blocks: vec![PoolSize { size: 64, count: 2 }],
            huge_pages: false,
        })
        .unwrap();
        let shared = pools.copy(b"head and body").unwrap().freeze();
        let (address, kept) = (shared.as_ptr(), shared.clone());
        let bytes = Bytes::from(shared);
        assert_eq!((bytes.as_ptr(), &bytes[..]), (address, &b"head and body"[..]));
        let body = bytes.slice(9..);
        assert_eq!(body.as_ptr(), address.wrapping_add(9));
        drop(kept);
        drop(bytes);
        assert!(!pools.is_full(), "a slice holds the block");
        let read = std::thread::spawn(move || body.to_vec()).join().unwrap();
        assert_eq!(read, b"body");
        assert!(pools.is_full());
    }
}
