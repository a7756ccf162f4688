//! The verifier: recomputes what can be recomputed, and compares what was claimed with what was done.

use std::sync::Arc;

use ledger::house::Hand;
use ledger::market::{self, Case};
use proto::ids::OrderId;
use proto::v1::ResolveDispute;
use provider_agent::{JobSpec, freivalds};
use rand::Rng as _;

use crate::artifacts::StoreError;
use crate::server::ServerState;
use crate::server::problem::Problem;

/// Rounds of the check: a wrong output passes with a probability of at most 2^-256.
const ROUNDS: u32 = 8;
/// The work class that can be recomputed here.
const GEMM: &str = "gemm.int8";

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Valid,
    WrongOutput,
    OverReport,
    MissingOutput,
}

impl Finding {
    const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::WrongOutput => "wrong_output",
            Self::OverReport => "over_report",
            Self::MissingOutput => "missing_output",
        }
    }
}

/// Judges an order that is disputed, or that its buyer left alone; `None`: it no longer needs a judge.
///
/// The judge's own policy where it cannot recompute: without the input the buyer, who holds it, bears the doubt; of a work
/// class that nobody here knows, silence means consent and a dispute is believed.
pub(super) async fn judge(
    state: &Arc<ServerState>,
    ledger_id: u32,
    order_id: OrderId,
) -> Result<Option<ResolveDispute>, Problem> {
    let verifier = state.pipeline.house().agent(Hand::Verifier);
    let case = market::read_case(&state.reader, Some(verifier), ledger_id, order_id).await?;
    let case = case
        .ok_or_else(|| Problem::new("UM403", "the verifier cannot see an order that is due for judgement"))?;
    if !["reported", "disputed"].contains(&case.state.as_str()) {
        return Ok(None);
    }
    let finding = find(state, ledger_id, case).await?;
    tracing::info!(order = %order_id, finding = finding.name(), "judged");
    Ok(Some(ResolveDispute {
        order_id: order_id.into(),
        output_valid: finding == Finding::Valid,
        finding: finding.name().to_owned(),
    }))
}

async fn find(state: &Arc<ServerState>, ledger_id: u32, case: Case) -> Result<Finding, Problem> {
    let Some(output_hash) = case.output_hash else { return Ok(Finding::MissingOutput) };
    let read = async |hash| state.store.read(ledger_id, hash).await.map_err(StoreError::Io);
    let Some(output) = read(&output_hash).await? else { return Ok(Finding::MissingOutput) };
    let input = read(&case.input_hash).await?;
    // Chosen after the output was committed by its hash.
    let mut seed = [0_u8; 32];
    rand::rng().fill_bytes(&mut seed);
    // Recomputing takes a while of one core: not on the threads that answer requests.
    Ok(tokio::task::spawn_blocking(move || weigh(&case, input.as_deref(), &output, seed)).await?)
}

fn weigh(case: &Case, input: Option<&[u8]>, output: &[u8], seed: [u8; 32]) -> Finding {
    let over = |units_max: u64| {
        case.over_limit_rows > 0 || case.metered_units.is_some_and(|metered| metered > units_max)
    };
    if case.work_class != GEMM {
        return match (over(case.work_units), case.state.as_str()) {
            (true, _) => Finding::OverReport,
            (false, "disputed") => Finding::WrongOutput,
            (false, _) => Finding::Valid,
        };
    }
    let Some(input) = input else {
        return if over(case.work_units) { Finding::OverReport } else { Finding::Valid };
    };
    // What is no job cannot have an output: the provider should have given it up.
    let Ok(job) = JobSpec::decode(input) else { return Finding::WrongOutput };
    if freivalds::check(&job, output, seed, ROUNDS).is_err() {
        return Finding::WrongOutput;
    }
    if over(job.work_units()) { Finding::OverReport } else { Finding::Valid }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::ArtifactHash;
    use provider_agent::{CpuExecutor, Executor};

    fn case(state: &str, metered: Option<u64>, over_limit_rows: u64) -> Case {
        Case {
            order_id: OrderId::now_v7(),
            state: state.to_owned(),
            work_class: GEMM.to_owned(),
            work_units: 100,
            input_hash: ArtifactHash::of(b""),
            output_hash: None,
            metered_units: metered,
            over_limit_rows,
        }
    }

    #[test]
    fn a_judge_recomputes_and_compares_what_was_claimed() {
        let job = JobSpec::from_request(100, 10, [7; 32]);
        let mut ignore = |_| std::ops::ControlFlow::Continue(());
        let output = Executor::Cpu(CpuExecutor::new(std::num::NonZero::<usize>::MIN).unwrap())
            .execute(&job, &mut ignore)
            .unwrap();
        let output = output.bytes;
        let mut wrong = output.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let input = job.encode();
        let units = job.work_units();
        for (metered, over_limit, output, expected) in [
            (Some(units), 0, &output, Finding::Valid),
            (None, 0, &output, Finding::Valid),
            (Some(units + 1), 0, &output, Finding::OverReport),
            (Some(units), 1, &output, Finding::OverReport),
            (Some(units), 0, &wrong, Finding::WrongOutput),
            (Some(units + 1), 1, &wrong, Finding::WrongOutput),
        ] {
            let found = weigh(&case("disputed", metered, over_limit), Some(&input), output, [1; 32]);
            assert_eq!(found, expected, "{metered:?} {over_limit}");
        }
        assert_eq!(
            weigh(&case("disputed", None, 0), Some(b"no job"), &output, [1; 32]),
            Finding::WrongOutput
        );
    }

    #[test]
    fn where_nothing_can_be_recomputed_the_policy_decides() {
        assert_eq!(weigh(&case("disputed", Some(100), 0), None, b"", [1; 32]), Finding::Valid);
        assert_eq!(weigh(&case("disputed", Some(101), 0), None, b"", [1; 32]), Finding::OverReport);
        for (state, expected) in [("disputed", Finding::WrongOutput), ("reported", Finding::Valid)] {
            let other = Case { work_class: "other".to_owned(), ..case(state, None, 0) };
            assert_eq!(weigh(&other, None, b"", [1; 32]), expected);
        }
    }
}
