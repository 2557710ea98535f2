//! Names to give to facts: an adjective and a noun, as `quiet-harbour`.
use crate::random::Random;

const ADJECTIVES: &str = "able amber ancient arctic azure basic bitter blank blind bold brave brief bright brisk broad \
bronze calm careful cheap chilly civil clever cloudy coarse common coral cosy crisp crude curly curious damp dark dear \
deep dense dim distant double dry dull dusty eager early earnest easy elder empty equal exact fabled faint fair false \
famous fancy fertile fierce final firm flat fluent fond formal frail frank free fresh frosty frozen full gentle giant \
glad glossy golden grand grateful grave green grey handy happy hardy harsh hasty hazy heavy hidden hollow holy honest \
hostile huge humble hungry icy ideal idle immense indoor inner ivory jolly joint keen kind large lasting late lavish \
lazy lean legal level light likely little lively local lofty lonely long loose loud loyal lucky lunar mellow merry mild \
minor misty modern modest moist mossy narrow native neat new nimble noble noisy novel oblong odd olive open outer oval \
pale patient plain pleasant polite proper proud pure purple quaint quick quiet rapid rare ready red regal rich rigid \
ripe rocky rough round royal rugged rural rusty sacred safe salty scarlet secret serene severe shallow sharp shiny \
short shy silent silver simple sincere sleepy slender slow small smooth snowy sober soft solar solid sombre sound sour \
spare stable stark steady steep stern stiff stout strange strict strong sturdy subtle sudden sunny swift tall tame \
tender thick thin tidy tiny tired tough tranquil true upper useful vague vain valid vast velvet violet vivid warm wary \
weary wet white whole wide wild wise witty wooden woven yellow young zealous";

const NOUNS: &str = "acorn anchor anvil apron arch arrow attic axle badge baker balcony banner barge barley barn barrel \
basin basket beacon beaver bell bench berry birch bishop blanket blossom boat bonnet bottle boulder bracelet branch brass \
brick bridge brook broom bucket buckle butter button cabin cable canal candle canoe canvas canyon carpet carriage castle \
cedar cellar chain chalk chapel cherry chimney cider clay cliff cloak clock clover coach cobbler coffee collar column \
comb compass copper cork cottage cotton cradle crane crater creek cricket crown crystal curtain cushion dagger dairy \
dale desert diamond ditch dock donkey drawer drum eagle elbow elm ember engine falcon farm feather fence fern ferry \
fiddle field finch flag flask flint flour flute forest forge fountain fox frame garden gate glacier glove goat gravel \
grove guitar gull hammer hammock harbour harp harvest hat hatchet hawk hazel hedge helmet herd heron hill hinge honey \
horn horse hut inlet iron island ivy jacket jar jewel jug kettle key kiln kite knot ladder lagoon lake lamp lance \
lantern larch lark lattice lawn leaf ledge lemon lever lily linen lizard lobster locket loom lute magnet mantle maple \
marble market marsh mast meadow medal melon mill mirror moat moon moor mountain mule mushroom needle nest nettle oak \
oar oasis oat ocean onion orchard organ otter oven owl oyster paddle palace pan parcel park parrot path peach peak \
pear pebble pen pencil pepper piano pier pigeon pillar pillow pine pipe plank planet plate plough plum pocket pond \
pony poplar porch potter prairie prism pulley pump quarry quill quilt rabbit raft railing rain rake raven reed ribbon \
ridge ring river road robin roof rope rose rudder saddle sail salmon sand satchel saw scarf seal seed shawl shed \
sheep shell shelf ship shore shovel sieve silk slate sledge slope snail sofa spade sparrow spear spoon spring spruce \
stable star statue steeple stone stool storm stove straw stream street sugar swan table tailor tent thimble thistle \
thorn thread thunder tiger tile timber tower trail train tray treasure trout trumpet trunk tulip tunnel turnip valley \
vase vault veil vessel village vine violin wagon walnut wardrobe water wave weaver well whale wharf wheat wheel \
whistle willow window wing winter wolf wool wren yacht yard zebra";

/// Pairs of words that no other draw of this list has given.
#[derive(Debug)]
pub(crate) struct Names {
    adjectives: Vec<&'static str>,
    nouns: Vec<&'static str>,
    /// What was given, or must not be.
    taken: std::collections::BTreeSet<String>,
}

impl Names {
    /// All names but these.
    pub(crate) fn without(taken: impl IntoIterator<Item = String>) -> Self {
        let words = |list: &'static str| list.split_whitespace().collect();
        Self { adjectives: words(ADJECTIVES), nouns: words(NOUNS), taken: taken.into_iter().collect() }
    }

    /// A name that was not given before. Past some sixty thousand, names have three words.
    pub(crate) fn next(&mut self, random: &mut Random) -> String {
        // By then more than half of the pairs are given.
        let long = self.taken.len() > self.adjectives.len() * self.nouns.len() / 2;
        loop {
            let mut name = (*random.pick(&self.adjectives)).to_owned();
            if long {
                name = format!("{name}-{}", random.pick(&self.adjectives));
            }
            let name = format!("{name}-{}", random.pick(&self.nouns));
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_name_comes_twice() {
        let mut random = Random::new(3, &[]);
        let mut names = Names::without(["quiet-harbour".to_owned()]);
        let count = names.adjectives.len() * names.nouns.len() / 2 + 500;
        let given: BTreeSet<String> = (0..count).map(|_| names.next(&mut random)).collect();
        assert_eq!(given.len(), count);
        assert!(!given.contains("quiet-harbour"));
        for list in [&names.adjectives, &names.nouns] {
            assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len(), "a word twice");
        }
    }
}
