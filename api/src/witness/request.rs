//! The body of `add-checkpoint`: `old SIZE`, proof lines, an empty line, a signed note.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proto::merkle::TreeHash;
use proto::note::parse_size;

/// A proof between two sizes of 64 bits is never longer.
pub(super) const PROOF_LINES_MAX: usize = 63;

/// A request that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'b> {
    pub(super) old: u64,
    pub(super) proof: Vec<TreeHash>,
    pub(super) note: &'b str,
}

impl<'b> Request<'b> {
    /// Says what is wrong otherwise.
    pub(super) fn parse(body: &'b [u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
        let (head, note) = text.split_once("\n\n").ok_or("no empty line stands before the checkpoint")?;
        let mut lines = head.split('\n');
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(parse_size)
            .ok_or("the first line is not 'old SIZE'")?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_LINES_MAX {
                return Err("the proof has more than 63 lines");
            }
            let hash = BASE64.decode(line).ok().and_then(|bytes| TreeHash::from_slice(&bytes).ok());
            proof.push(hash.ok_or("a proof line is no base64 of 32 bytes")?);
        }
        Ok(Self { old, proof, note })
    }

    /// The same as a body.
    pub(super) fn to_body(&self) -> String {
        let proof: String =
            self.proof.iter().map(|hash| format!("{}\n", BASE64.encode(hash.as_bytes()))).collect();
        format!("old {}\n{proof}\n{}", self.old, self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_understood_and_written_the_same() {
        let body = "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
                    jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
                    /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\nexample.com/behind-the-sofa\n20852163\n\
                    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
                    \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
        let request = Request::parse(body.as_bytes()).unwrap();
        assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
        assert!(request.note.starts_with("example.com/behind-the-sofa\n20852163\n"));
        assert_eq!(request.to_body(), body);
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        let hash = format!("{}\n", BASE64.encode([0; 32]));
        for bad in [
            String::new(),
            "old 1\nnote\n".into(),
            "old 01\n\nnote".into(),
            "old -1\n\nnote".into(),
            "new 1\n\nnote".into(),
            "old 1\nAAAA\n\nnote".into(),
            format!("old 1\n{}\nnote", hash.repeat(64)),
        ] {
            assert!(Request::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Request::parse(format!("old 1\n{}\nnote", hash.repeat(63)).as_bytes()).is_ok());
        assert!(Request::parse(b"old 1\n\n\xff").is_err());
    }
}
