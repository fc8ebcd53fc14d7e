//! Stable pseudo-randomness: the same object gets the same number in every process, and near-equal inputs get far-apart
//! ones. For jitter that must survive a restart; never for secrets.

/// A number that belongs to `text`: FNV-1a (Fowler, Noll, Vo 1991), finished by [`mix`] because FNV alone leaves the
/// high bits of short texts nearly equal.
pub fn hash(text: &str) -> u64 {
    mix(text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3)))
}

/// Sebastiano Vigna's splitmix64 step: a bijection that spreads near-equal seeds over all 64 bits.
pub const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `span · fraction / 2⁶⁴`: maps a 64-bit number evenly onto `0..span`.
pub fn scale(span: u64, fraction: u64) -> u64 {
    u64::try_from((u128::from(span) * u128::from(fraction)) >> 64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_land_far_apart_and_evenly() {
        let mut tenths = [0u32; 10];
        for n in 0..10_000 {
            tenths[usize::try_from(scale(10, hash(&format!("connection-{n}")))).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|&n| (850..1150).contains(&n)), "{tenths:?}");
    }

    #[test]
    fn the_numbers_never_change_between_releases() {
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF, "Vigna's own first output for seed 0");
        assert_eq!(scale(100, u64::MAX), 99);
        assert_eq!(scale(100, 0), 0);
    }
}
