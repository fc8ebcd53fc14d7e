//! Stable hashing: the same input gives the same number in every process and release, and similar inputs give unrelated
//! numbers. For jitter that must survive a restart; not cryptographic.

use std::hash::Hasher as _;

use fnv::FnvHasher;
use sha2::{Digest as _, Sha256};

/// Hash of `text`: FNV-1a (Fowler, Noll, Vo 1991), 64 bits.
pub fn fnv1a(text: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// [`fnv1a`] finalized by [`mix`], because FNV alone leaves the high bits of short texts nearly equal.
pub fn stable_hash(text: &str) -> u64 {
    mix(fnv1a(text))
}

/// The first 64 bits of a digest in hexadecimal: enough to distinguish the few values of one object.
pub fn short_hex(digest: Sha256) -> String {
    hex::encode(&digest.finalize()[..8])
}

/// One step of Sebastiano Vigna's splitmix64: a bijection that distributes similar seeds over all 64 bits.
pub const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `span · fraction / 2⁶⁴`: maps a 64-bit number uniformly onto `0..span`.
pub fn scale(span: u64, fraction: u64) -> u64 {
    u64::try_from((u128::from(span) * u128::from(fraction)) >> 64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_inputs_are_distributed_uniformly() {
        let mut tenths = [0u32; 10];
        for n in 0..10_000 {
            tenths[usize::try_from(scale(10, stable_hash(&format!("connection-{n}")))).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|&n| (850..1150).contains(&n)), "{tenths:?}");
    }

    #[test]
    fn the_hash_is_stable_between_releases() {
        let published = [("", 0xCBF2_9CE4_8422_2325), ("a", 0xAF63_DC4C_8601_EC8C), ("foobar", 0x8594_4171_F739_67E8)];
        for (text, hash) in published {
            assert_eq!(fnv1a(text), hash, "{text:?}: Noll's own test vectors");
        }
        assert_eq!(stable_hash("connection-1"), 0xC59D_B355_88C5_4CBF);
        assert_eq!(short_hex(Sha256::new()), "e3b0c44298fc1c14");
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF, "Vigna's own first output for seed 0");
        assert_eq!(scale(100, u64::MAX), 99);
        assert_eq!(scale(100, 0), 0);
    }
}
