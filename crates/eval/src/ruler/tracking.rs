//! `vt`: a value assigned from variable to variable, the assignments scattered in noise.
use super::Ruler;
use crate::Error;
use crate::item::{Frame, Item, Pose};
use crate::score::Scorer;

const ANSWER: usize = 30;
const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
const HOPS: usize = 4;

impl Ruler<'_> {
    pub(super) fn tracking(&mut self, length: usize, index: usize) -> Result<Item, Error> {
        let mut random = self.random("vt", length, index);
        let mut variables: Vec<String> = Vec::new();
        while variables.len() <= HOPS {
            let variable = random.letters(5, b'A');
            if !variables.contains(&variable) {
                variables.push(variable);
            }
        }
        let value = random.digits(5);
        let mut chain = vec![format!("VAR {} = {value}", variables[0])];
        chain.extend(variables.windows(2).map(|pair| format!("VAR {} = VAR {}", pair[1], pair[0])));
        let frame = Frame {
            example: String::new(),
            before:
                "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
                    .to_owned(),
            after: format!(
                "\nQuestion: Find all variables that are assigned the value {value} in the text above."
            ),
            prefix: format!(
                " Answer: According to the chain(s) of variable assignment in the text above, {} variables are \
                 assigned the value {value}, they are:",
                variables.len()
            ),
            raw: false,
        };
        let chain_tokens: usize = chain.iter().map(|line| self.tokens(&format!("{line}\n"))).sum();
        let room = self.room("vt", length, &frame, ANSWER)?.saturating_sub(chain_tokens);
        let mut lines = vec![NOISE; room / self.tokens(&format!("{NOISE}\n"))];
        // In the order of the chain, from its end, so that earlier places stay what they were.
        let mut places = random.sample(lines.len() + 1, chain.len());
        places.sort_unstable();
        for (place, line) in places.iter().zip(&chain).rev() {
            lines.insert(*place, line);
        }
        let depth = places.first().map(|place| *place as f64 / lines.len() as f64);
        Ok(Item {
            task: "vt".to_owned(),
            length,
            index,
            depth,
            context: lines.join("\n"),
            shelf: "noise".to_owned(),
            pose: Pose::Chain {
                question: format!("Find all variables that are assigned the value {value}."),
                hops: HOPS,
                passages: 2,
                trail: true,
            },
            frame,
            expected: variables,
            scorer: Scorer::All,
            max_tokens: ANSWER,
            quotes: true,
            parts: Vec::new(),
            like: Vec::new(),
            needs: Vec::new(),
        })
    }
}
