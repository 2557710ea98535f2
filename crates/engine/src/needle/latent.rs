//! Facts whose question shares no content word with them: only knowledge of the world leads from one to the other
//! (the idea of Modarressi et al., 2025; the table is our own).

/// What is said of a person, and the question whose answer that person is. No two lines answer one question.
pub(super) const TABLE: &[(&str, &str)] = &[
    // Places, by what stands or flows there.
    ("lives next to the Semper Opera House", "Who has been to Dresden?"),
    ("sold postcards under the Eiffel Tower all summer", "Who has been to Paris?"),
    ("was photographed in front of the Colosseum", "Who has been to Rome?"),
    ("rang a bell on the steps of the Parthenon", "Who has been to Athens?"),
    ("fed the ravens at the Tower Bridge", "Who has been to London?"),
    ("keeps a stone picked up beside the Brandenburg Gate", "Who has been to Berlin?"),
    ("drew the unfinished towers of the Sagrada Família", "Who has been to Barcelona?"),
    ("leant against the Kremlin wall in the snow", "Who has been to Moscow?"),
    ("sang in the Sydney Opera House once", "Who has been to Australia?"),
    ("climbed the Great Pyramid before sunrise", "Who has been to Egypt?"),
    ("wept at the sight of the Taj Mahal", "Who has been to India?"),
    ("walked a stretch of the Great Wall barefoot", "Who has been to China?"),
    ("slept in a hut at the foot of Mount Fuji", "Who has been to Japan?"),
    ("took a llama up to Machu Picchu", "Who has been to Peru?"),
    ("stood under the statue of Christ the Redeemer", "Who has been to Brazil?"),
    ("rowed past the Statue of Liberty in the fog", "Who has been to New York?"),
    ("rode a cable car over the hill to the Golden Gate", "Who has been to San Francisco?"),
    ("threw a coin from the Rialto into the canal", "Who has been to Venice?"),
    ("measured how far the famous tower leans beside its cathedral", "Who has been to Pisa?"),
    ("was married in the Blue Mosque by the Bosporus", "Who has been to Istanbul?"),
    ("counted the saints along the Charles Bridge", "Who has been to Prague?"),
    ("danced at a ball in Schönbrunn Palace", "Who has been to Vienna?"),
    ("sat on a rock beside the Little Mermaid", "Who has been to Copenhagen?"),
    ("saw the warship Vasa in its museum", "Who has been to Stockholm?"),
    ("peeled potatoes for a week in the shadow of Table Mountain", "Who has been to South Africa?"),
    ("flew a kite above the Victoria Falls", "Who has been to Zimbabwe?"),
    ("lost a shoe in the red sand of Petra", "Who has been to Jordan?"),
    ("prayed at the Wailing Wall", "Who has been to Jerusalem?"),
    ("rode an elephant to the temples of Angkor Wat", "Who has been to Cambodia?"),
    ("looked down from the Burj Khalifa", "Who has been to Dubai?"),
    ("bathed near the Strokkur geyser", "Who has been to Iceland?"),
    ("watched the guards change in front of the Parliament on Rideau Hill", "Who has been to Ottawa?"),
    ("bought tulips from a houseboat outside the Rijksmuseum", "Who has been to Amsterdam?"),
    ("laughed at the Manneken Pis", "Who has been to Brussels?"),
    ("ate sausages in the Hofbräuhaus", "Who has been to Munich?"),
    ("read old books in the Long Room of Trinity College", "Who has been to Dublin?"),
    ("pushed a pram up the Royal Mile to the castle", "Who has been to Edinburgh?"),
    ("touched the frescoes in the Uffizi", "Who has been to Florence?"),
    ("gazed at the crater of Vesuvius", "Who has been to Naples?"),
    ("painted the court of the lions in the Alhambra", "Who has been to Granada?"),
    ("tasted port wine in a cellar above the Douro", "Who has been to Portugal?"),
    ("swam in the Széchenyi baths in winter", "Who has been to Budapest?"),
    ("stayed a night in the Wawel castle above the Vistula", "Who has been to Poland?"),
    ("hiked around the Matterhorn", "Who has been to Switzerland?"),
    ("steered a ferry into the Geirangerfjord", "Who has been to Norway?"),
    ("rented a bungalow near the Merlion fountain", "Who has been to Singapore?"),
    ("meditated in the Shwedagon pagoda", "Who has been to Burma?"),
    ("carried a rucksack to the base camp of Mount Everest", "Who has been to Nepal?"),
    ("took a picture of the stone heads on their lonely ocean island", "Who has been to Chile?"),
    ("watched a parade of mummers outside the Liberty Bell hall", "Who has been to Philadelphia?"),
    ("jogged around the Lincoln Memorial every morning", "Who has been to Washington?"),
    ("played slot machines on the Strip until dawn", "Who has been to Nevada?"),
    ("surfed at Waikiki before breakfast", "Who has been to Hawaii?"),
    ("marched in Mardi Gras down Bourbon Street", "Who has been to Louisiana?"),
    ("defended a thesis beside the Radcliffe Camera", "Who has been to Oxford?"),
    // What people do, by what they do it with.
    ("crawls under sinks and mends leaking pipes", "Who works as a plumber?"),
    ("kneads dough long before anybody is awake", "Who works as a baker?"),
    ("pulls rotten teeth and fits crowns", "Who works as a dentist?"),
    ("hammers glowing horseshoes on an anvil", "Who works as a blacksmith?"),
    ("shears sheep and milks cows at dawn", "Who works as a farmer?"),
    ("casts nets from a trawler in the cold", "Who works as a fisherman?"),
    ("sentences thieves from a bench in a black robe", "Who works as a judge?"),
    ("delivers babies at all hours", "Who works as a midwife?"),
    ("photographs galaxies through a large telescope", "Who works as an astronomer?"),
    ("digs up pottery of vanished peoples with a small brush", "Who works as an archaeologist?"),
    ("keeps hives and smokes the swarm out in June", "Who works as a beekeeper?"),
    ("cuts hair and trims beards in a shop with a striped pole", "Who works as a barber?"),
    ("grinds lenses and sells spectacles", "Who works as an optician?"),
    ("slides down a pole when the alarm goes and points the hose", "Who works as a firefighter?"),
    ("lands jets on short runways", "Who works as a pilot?"),
    ("vaccinates puppies and sets the legs of cats", "Who works as a veterinarian?"),
    ("catalogues novels and hushes loud readers", "Who works as a librarian?"),
    ("measures gentlemen for suits with chalk and pins", "Who works as a tailor?"),
    ("saws planks and joins them with dovetails", "Who works as a carpenter?"),
    ("fills prescriptions and weighs powders", "Who works as a pharmacist?"),
    ("preaches from the pulpit on Sundays", "Who works as a priest?"),
    ("carves roasts and stuffs sausages behind a counter", "Who works as a butcher?"),
    ("pushes letters through every door in the street", "Who works as a postman?"),
    ("waves a baton in front of eighty musicians", "Who works as a conductor?"),
    ("rewires old houses and replaces fuses", "Who works as an electrician?"),
    ("makes coffins and drives a hearse", "Who works as an undertaker?"),
    ("repairs the escapements of watches", "Who works as a clockmaker?"),
    ("goes down a shaft with a lamp to hew coal", "Who works as a miner?"),
    ("lays bricks with a trowel in all weathers", "Who works as a mason?"),
    // Habits and conditions, by their signs.
    ("gets hives from peanuts and carries an injector", "Who suffers from an allergy?"),
    ("injects insulin before every meal", "Who suffers from diabetes?"),
    ("needs an inhaler after climbing stairs", "Who suffers from asthma?"),
    ("reads with the fingertips and walks with a white cane", "Who is blind?"),
    ("follows talk by watching lips and answers in signs", "Who is deaf?"),
    ("never eats meat or fish", "Who is a vegetarian?"),
    ("lights a menorah in December and keeps the Sabbath", "Who is Jewish?"),
    ("fasts through Ramadan and kneels towards Mecca", "Who is a Muslim?"),
    ("has not touched a drop since joining the Anonymous meetings", "Who is an alcoholic?"),
    ("writes with the wrong one and smears the ink", "Who is left-handed?"),
    ("cannot tell a ripe tomato from an unripe one by its hue", "Who is colour-blind?"),
    ("blows out the same candles as an identical sister", "Who is a twin?"),
    ("has buried a husband and wears black", "Who is a widow?"),
    ("grew up in a home after both parents had died", "Who is an orphan?"),
    ("lies awake until the birds begin", "Who suffers from insomnia?"),
    ("will not enter a lift or any narrow room", "Who suffers from claustrophobia?"),
    ("screams whenever something with eight legs crosses the floor", "Who is afraid of spiders?"),
    ("has a bad head that throbs for days behind drawn curtains", "Who suffers from migraine?"),
    // Pastimes, by their gear.
    ("castles early and loves the Sicilian Defence", "Who plays chess?"),
    ("tunes four strings and rubs the bow with rosin", "Who plays the violin?"),
    ("wears out the pedals of a Steinway grand", "Who plays the piano?"),
    ("beats a snare and two cymbals in a garage", "Who plays the drums?"),
    ("fills a tartan sack with breath until it drones", "Who plays the bagpipes?"),
    ("owns three putters and a handicap of nine", "Who plays golf?"),
    ("bowls googlies and dreams of Lord's", "Who plays cricket?"),
    ("serves aces and argues with the umpire at Wimbledon", "Who plays tennis?"),
    ("ducked every punch and won by knockout", "Who is a boxer?"),
    ("waxes two long boards and waits for snow on the slopes", "Who likes skiing?"),
    ("hangs from a wing of nylon above the valley", "Who likes paragliding?"),
    ("fills albums with old stamps", "Who likes philately?"),
    ("sits in a hide with binoculars to tick off rare warblers", "Who likes birdwatching?"),
    ("folds cranes out of square paper", "Who likes origami?"),
    ("prunes tiny pines in shallow pots", "Who likes bonsai?"),
    ("turns wool into sweaters with two long needles", "Who likes knitting?"),
    // Tongues and deeds.
    ("reads Dante as he wrote it", "Who understands Italian?"),
    ("reads Tolstoy without a translation", "Who understands Russian?"),
    ("reads Cervantes in the original", "Who understands Spanish?"),
    ("reads Caesar for pleasure, every declension of it", "Who understands Latin?"),
    ("crossed the finishing line after twenty-six miles", "Who has run a marathon?"),
];

#[cfg(test)]
mod tests {
    use super::TABLE;
    use longleaf_memory::lexical::{Analysis, for_each_term};
    use std::collections::BTreeSet;

    /// Words that say nothing by themselves.
    const EMPTY: &str = "a an and as at been by for from has in is it of on or out to the that this was who with \
                         works plays likes suffers understands been";

    fn stems(text: &str) -> BTreeSet<String> {
        let mut stems = BTreeSet::new();
        for_each_term(text, Analysis { stems: true }, &mut |_, term| {
            stems.insert(term.to_owned());
        });
        stems
    }

    #[test]
    fn no_question_shares_a_content_word_with_any_fact() {
        let empty = stems(EMPTY);
        let questions: BTreeSet<_> = TABLE.iter().map(|(_, question)| question).collect();
        assert_eq!(questions.len(), TABLE.len(), "every question has one answer");
        let mut sharing = Vec::new();
        for (_, question) in TABLE {
            let asked: BTreeSet<_> = stems(question).difference(&empty).cloned().collect();
            assert!(!asked.is_empty(), "{question}");
            for (said, _) in TABLE {
                let shared: Vec<_> = stems(said).intersection(&asked).cloned().collect();
                if !shared.is_empty() {
                    sharing.push((said, question, shared));
                }
            }
        }
        assert!(sharing.is_empty(), "{sharing:#?}");
    }
}
