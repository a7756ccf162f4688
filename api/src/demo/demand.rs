//! Demand without a file: a seeded generator of requests with the trace's columns. The same seed gives the same requests
//! on every machine, so that two people can talk about the same run.

use super::trace::Request;

/// Half of the requests read fewer tokens than this.
const CONTEXT_MEDIAN: f64 = 1_400.0;
/// Spread of the logarithm: with the median it puts the mean near 2,000, as in published traces of code completion.
const CONTEXT_SIGMA: f64 = 0.85;
const CONTEXT_MAX: f64 = 16_384.0;
/// Mean of the geometric distribution of written tokens.
const GENERATED_MEAN: f64 = 28.0;
const GENERATED_MAX: f64 = 2_048.0;
/// Mean pause between requests, seconds: about 9,000 an hour.
const PAUSE_MEAN_S: f64 = 0.4;

/// Uniform numbers from an endless BLAKE3 stream: reproducible wherever BLAKE3 is, unlike a library's default generator,
/// which may change with its version.
pub(crate) struct Dice(blake3::OutputReader);

impl Dice {
    /// The dice of one `purpose` under `seed`; other purposes get unrelated numbers.
    pub(crate) fn new(purpose: &str, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("openagents econ demo v1 dice");
        hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
        Self(hasher.finalize_xof())
    }

    /// The next bytes of the stream.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Uniform below `bound`; 0 for a bound of 0 or 1. The bias is below 2⁻³² for the bounds used here.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let wide = u64::from(u32::from_le_bytes(self.bytes())) * u64::from(bound);
        u32::try_from(wide >> 32).unwrap_or_default()
    }

    /// Uniform in (0, 1].
    fn unit(&mut self) -> f64 {
        (f64::from(u32::from_le_bytes(self.bytes())) + 1.0) / 4_294_967_296.0
    }

    /// Standard normal (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// `count` requests: lognormal contexts, geometric outputs, exponential pauses.
pub(crate) fn generate(seed: u64, count: usize) -> Vec<Request> {
    let mut dice = Dice::new("demand", seed);
    let mut at_us = 0;
    (0..count)
        .map(|i| {
            if i > 0 {
                at_us += i64::from(whole(-dice.unit().ln() * PAUSE_MEAN_S * 1e6, 0.0, 60e6));
            }
            let context = CONTEXT_MEDIAN * (CONTEXT_SIGMA * dice.normal()).exp();
            // The inverse of the geometric distribution's tail.
            let generated = (dice.unit().ln() / (1.0 - 1.0 / GENERATED_MEAN).ln()).ceil();
            Request {
                at_us,
                context_tokens: whole(context, 1.0, CONTEXT_MAX),
                generated_tokens: whole(generated, 1.0, GENERATED_MAX),
            }
        })
        .collect()
}

/// Rounds into a range that fits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped to a range within u32 on this very line.
fn whole(value: f64, min: f64, max: f64) -> u32 {
    value.clamp(min, max).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_demand_and_another_seed_another() {
        assert_eq!(generate(7, 500), generate(7, 500));
        assert_ne!(generate(7, 500), generate(8, 500));
        // A shorter run is the beginning of a longer one.
        assert_eq!(generate(7, 50), generate(7, 500)[..50]);
    }

    #[test]
    fn the_demand_of_seed_one_is_frozen() {
        let frozen = [(0, 1_635, 32), (453_152, 2_714, 20), (569_842, 1_013, 77)];
        let frozen = frozen.map(|(at_us, context_tokens, generated_tokens)| Request {
            at_us,
            context_tokens,
            generated_tokens,
        });
        assert_eq!(generate(1, 3), frozen);
    }

    #[test]
    fn contexts_and_outputs_have_the_shape_they_are_meant_to_have() {
        let requests = generate(3, 20_000);
        let mean =
            |of: fn(&Request) -> u32| requests.iter().map(|r| f64::from(of(r))).sum::<f64>() / 20_000.0;
        let (context, generated) = (mean(|r| r.context_tokens), mean(|r| r.generated_tokens));
        assert!((1_800.0..2_200.0).contains(&context), "{context}");
        assert!((26.0..30.0).contains(&generated), "{generated}");
        assert!(requests.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
        assert!(requests.iter().all(|r| r.context_tokens >= 1 && r.generated_tokens >= 1));
    }

    #[test]
    fn dice_stay_below_their_bound_and_reach_everything_under_it() {
        let mut dice = Dice::new("test", 1);
        let mut seen = [false; 6];
        for _ in 0..1_000 {
            seen[dice.below(6) as usize] = true;
        }
        assert!(seen.iter().all(|s| *s));
        assert_eq!(dice.below(1), 0);
    }
}
