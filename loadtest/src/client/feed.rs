//! From received buffers to whole frames: in place where a buffer holds whole ones, in one small
//! block where a frame straddles two.

use super::{Progress, Violation};
use netpoll::{Buffer, BufferPools};

/// No block for the rest of a frame: the pools are too small, or the frame is too large for any
/// block.
const NO_BLOCK: Violation = Violation("frame_over_largest_block");

/// Passes `input` to `read`, behind what `partial` holds of the frame before it; keeps the unread
/// rest in `partial`.
///
/// # Errors
/// Those of `read`; then the connection is to be closed.
pub(crate) fn feed(
    partial: &mut Option<Buffer>,
    mut input: Buffer,
    pools: &mut BufferPools,
    mut read: impl FnMut(&mut [u8]) -> Result<Progress, Violation>,
) -> Result<(), Violation> {
    while let Some(mut held) = partial.take() {
        // The size that the frame needs was not kept: its first bytes give it again.
        let progress = read(held.as_mut_slice())?;
        held.advance(progress.consumed);
        if held.is_empty() {
            break;
        }
        let wanted = progress.needed.max(held.len() + 1);
        let missing = (wanted - held.len()).min(input.len());
        if missing == 0 {
            *partial = Some(held);
            return Ok(());
        }
        let mut held = grow(held, wanted, pools)?;
        held.append(&input.as_slice()[..missing]);
        input.advance(missing);
        *partial = Some(held);
    }
    if input.is_empty() {
        return Ok(());
    }
    let progress = read(input.as_mut_slice())?;
    input.advance(progress.consumed);
    if input.is_empty() {
        return Ok(());
    }
    let size = progress.needed.max(input.len());
    let mut rest = pools.take(size).ok_or(NO_BLOCK)?;
    rest.append(input.as_slice());
    *partial = Some(rest);
    Ok(())
}

/// `held` itself if `size` bytes fit, otherwise its bytes in a larger block.
fn grow(held: Buffer, size: usize, pools: &mut BufferPools) -> Result<Buffer, Violation> {
    if held.capacity() >= size {
        return Ok(held);
    }
    let mut larger = pools.take(size).ok_or(NO_BLOCK)?;
    larger.append(held.as_slice());
    Ok(larger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::BackendConfig;

    /// Frames of one length byte and so many more bytes.
    fn read_frames(input: &mut [u8], seen: &mut Vec<Vec<u8>>) -> Result<Progress, Violation> {
        let mut at = 0;
        while let Some(size) = input.get(at).map(|size| usize::from(*size)) {
            let Some(frame) = input.get(at + 1..at + 1 + size) else {
                return Ok(Progress { consumed: at, needed: 1 + size });
            };
            seen.push(frame.to_vec());
            at += 1 + size;
        }
        Ok(Progress { consumed: at, needed: 0 })
    }

    #[test]
    fn frames_are_read_once_wherever_the_stream_is_cut() {
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let frames: Vec<Vec<u8>> =
            [3_u8, 0, 200, 1, 255, 17].iter().map(|n| (0..*n).map(|b| b ^ n).collect()).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|f| [&[f.len() as u8], f.as_slice()].concat()).collect();
        for step in 1..=stream.len() {
            let (mut partial, mut seen) = (None, Vec::new());
            for chunk in stream.chunks(step) {
                let mut input = pools.take_receive().unwrap();
                input.append(chunk);
                feed(&mut partial, input, &mut pools, |bytes| read_frames(bytes, &mut seen)).unwrap();
            }
            assert_eq!(seen, frames, "cut every {step} bytes");
            assert!(partial.is_none());
        }
        assert!(pools.is_full(), "a block leaked");
    }
}
