"""Writes the text that tiny-chat learns from: conversations about Selvedge, and passages with questions.

Nothing is copied from elsewhere. Passages are about invented people, shops, towns and machines, so the
only way to answer is to copy from the passage. Facts come from relations with several wordings for the
statement and the question, and one wording for the answer: it repeats the subject first, which leads a
small model to the right sentence before it has to produce the value.

Held out: every invented name and list word is assigned to training or to evaluation by its CRC, wordings
are held out as (statement, question) pairs, NEW_RELATIONS and HELD_WRAPPERS are not in training at all, and
so is each question about Selvedge whose CRC says so.

    python generate.py heldout > heldout.jsonl     the evaluation items
    python generate.py sample 20                   a look at the training text
"""

import json
import random
import re
import sys
import zlib

import topics


def crc(s):
    """A hash that is the same on every machine and run, unlike hash()."""
    return zlib.crc32(s.lower().encode())


def held(s):
    return crc(s) % 10 == 0


# ---------------------------------------------------------------- words and names

ONSET = "b c d f g h j k l m n p r s t v w z br cr dr fr gr pr tr bl cl fl gl pl sl st sk sp sn sh ch th qu".split()
NUCLEUS = "a e i o u a e i o u ai ea ee ia ie io oa oo ou y".split()
CODA = ["", "", "", "", "n", "r", "l", "s", "m", "t", "k", "d", "x", "nd", "rt", "lm", "sk", "rn", "ck", "th", "ng"]
PLACE_END = "ford ham ville ton stad mouth field bury port dale burg haven wick holm stein moor gate".split()
FIRST = """Anna Peter Maria James Laura Tom Nina Paul Sara Max Emma Jonas Lena Oscar Julia Felix Clara Leo Mia Hugo Ida
Noah Eva Adam Ruth Simon Alice Martin Rosa Victor Helen Daniel Irene Carlos Yuki Omar Fatima Chen Priya Ravi Ingrid
Lars Sofia Ivan Olga Marco Elena Pedro Amina Kofi Zara Liam Grace Henry Lucy George Diana Frank Nora Walter""".split()
SHE = set("""Anna Maria Laura Nina Sara Emma Lena Julia Clara Mia Ida Eva Ruth Alice Rosa Helen Irene Yuki Fatima Priya
Ingrid Sofia Olga Elena Amina Zara Grace Lucy Diana Nora""".split())
LAST = """Smith Miller Weber Rossi Garcia Novak Larsen Brown Tanaka Silva Kowalski Moreau Jensen Baker Fischer Singh Khan
Lopez Murphy Evans Berg Costa Ahmed Young Stone Hill Frost Marsh Wolf""".split()
WORDS = {
    "job": """baker teacher doctor carpenter nurse pilot farmer lawyer painter plumber engineer gardener dentist
judge singer tailor miner sailor chemist librarian mechanic butcher translator electrician architect journalist cook
potter firefighter beekeeper welder geologist programmer accountant surgeon dancer blacksmith glazier printer
detective clockmaker vet barber photographer locksmith""",
    "colour": """red blue green yellow white black orange purple grey brown pink silver golden turquoise crimson violet
beige scarlet navy amber teal ivory maroon lilac olive""",
    "material": """oak steel glass granite bronze copper bamboo marble clay brick leather wool cotton silk plastic
titanium pine aluminium concrete rubber linen paper wax slate iron limestone felt brass cork sandstone walnut""",
    "animal": """dog cat horse parrot rabbit goat donkey hamster turtle goose pony canary sheep ferret lizard pig hen
snake mouse fox owl duck camel llama""",
    "food": """apples rice soup bread cheese noodles beans pancakes mushrooms cherries lentils dumplings honey salad
potatoes plums fish walnuts pasta chocolate grapes carrots olives pumpkin sausages waffles curry porridge tomatoes""",
    "hobby": """chess gardening sailing painting fencing cycling swimming knitting hiking fishing archery pottery
climbing skating singing juggling photography origami dancing rowing astronomy baking running judo woodcarving""",
    "language": """French German Spanish Italian Polish Greek Danish Turkish Arabic Hindi Korean Dutch Swedish Czech
Finnish Welsh Hungarian Latin Basque Swahili Irish Thai Norwegian""",
    "instrument": "violin piano flute guitar trumpet cello harp drum clarinet oboe organ accordion banjo trombone lute viola",
    "object": """bridge clock lamp table boat statue gate fence piano bench tower wheel chair roof mirror ladder
engine kite carpet barrel window bell tent wagon basket fountain map vase desk kettle radio bicycle pump drone piston
camera anchor sword crown key box door wall garden mill""",
    "adj": """old new small big wooden broken heavy tiny famous long round quiet bright narrow tall rusty empty cheap
strange secret shiny dusty noisy modern ancient soft cold warm""",
    "verb": """repaired painted sold bought found built designed opened lost cleaned stole moved hid borrowed tested
broke carried drew photographed inspected ordered rented replaced restored measured washed decorated sketched
polished delivered damaged destroyed discovered donated described checked approved rejected copied packed shipped
locked unlocked collected buried burned climbed cut dropped fixed folded forgot guarded improved installed kept
launched lifted made mended named noticed opened planned printed pulled pushed recorded removed rescued returned
saved signed stored studied sealed traded wrapped won""",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "month": "January February March April May June July August September October November December",
    "crop": "wheat barley grapes tea coffee salt timber wool cotton olives corn tobacco sugar hops flax rice rye",
    "role": """director manager treasurer president secretary captain chairman coach editor founder owner curator
head chief-engineer producer spokesman dean mayor designer auditor""",
    "attr": """colour weight size price code name owner speed height depth width length age origin number symbol motto
flavour smell shape taste rank score power range capacity voltage pressure temperature level version label title format
frequency budget deadline target limit serial key password address sector zone family type class mode status grade
material texture pattern sponsor supplier partner rival leader inventor emblem anthem nickname theme purpose frequency
author manager guide neighbour guest host judge doctor builder buyer seller agent engine fuel fabric floor door roof
gift prize reward fee tax rent wage bonus result total average maximum minimum radius volume density offset index
signal channel currency dialect capital port border climate crop dish drink dessert sport habit fear secret wish goal
hero villain setting ending genre tempo instrument melody prefix suffix extension encoding protocol backend region
country county street floor shelf drawer slot queue batch cycle season holiday festival greeting salary rating""",
    "thing": """engine valve crystal robot module scroll planet comet signal device orchid beetle sample formula
contract protocol satellite amulet cable battery rocket turbine filter lens gear probe tablet medal recipe fabric
vaccine alloy drill reactor antenna chip beacon potion relic""",
    "dish": "pizza soup stew pie cake salad curry bread tart pudding omelette sauce roast risotto casserole dumplings",
    "town": """Berlin Paris London Madrid Rome Vienna Oslo Lisbon Prague Dublin Athens Tokyo Boston Chicago Toronto Sydney
Cairo Lima Delhi Seoul Bergen Porto Geneva Munich Hamburg Milan Naples Austin Denver Seattle Lagos Nairobi Kyoto Leeds""",
    "unit": "metres kilometres kilograms tons litres hours minutes days weeks months seats people members pages grams years",
    "common": """river bottle carpet spoon bridge lamp garden window violin pepper button blanket ladder candle
mountain engine pocket basket pencil harbour hammer ticket mirror tunnel jacket butter pillow rocket magnet helmet
forest bakery shoe turtle parrot apple potato castle desert island winter summer guitar piano drum cinema theatre
museum hospital school market station airport ship tractor bicycle wheel clock planet star cloud storm stone""",
}
WORDS = {k: v.split() for k, v in WORDS.items()}


class Lexicon:
    """Draws random names, words and numbers: from the training share, or for evaluation from the rest."""

    def __init__(self, rng, evaluate=False):
        self.rng, self.evaluate = rng, evaluate

    def pick(self, seq):
        return seq[int(self.rng.random() * len(seq))]

    def chance(self, p):
        return self.rng.random() < p

    def invented(self, low=2, high=3):
        while True:
            n = self.rng.randint(low, high)
            w = "".join(self.pick(ONSET) + self.pick(NUCLEUS) for _ in range(n)) + self.pick(CODA)
            if len(w) <= 11 and held(w) == self.evaluate:
                return w

    def name(self):
        """Mostly invented, sometimes an ordinary word as a name, such as Pepper."""
        if self.chance(0.12):
            return self.word(self.pick(["common", "food", "colour", "animal", "material"])).capitalize()
        return self.invented(2, 2 if self.chance(0.4) else 3).capitalize()

    def place(self):
        if self.chance(0.4):
            while True:
                w = self.pick(ONSET) + self.pick(NUCLEUS) + self.pick(CODA) + self.pick(PLACE_END)
                if held(w) == self.evaluate:
                    return w.capitalize()
        if self.chance(0.2):
            return self.word("town").capitalize()
        return self.name() if self.chance(0.85) else self.pick(["New ", "Port ", "Lake ", "Mount ", "North "]) + self.name()

    def word(self, kind):
        """A listed word, or now and then an invented one, so that the list is no shortcut to the answer."""
        if self.chance(0.12) and kind not in ("day", "month", "verb", "adj", "role", "attr", "thing", "dish", "unit", "object"):
            return self.invented() if kind != "language" else self.name()
        while True:
            w = self.pick(WORDS[kind])
            if not self.evaluate and held(kind + w) and len(WORDS[kind]) > 12:
                continue
            return w.replace("-", " ")

    def person(self):
        first = self.pick(FIRST) if self.chance(0.5) else self.name()
        last = self.pick(LAST) if self.chance(0.25) else self.name()
        r = self.rng.random()
        return first if r < 0.25 else f"Dr. {last}" if r < 0.29 else f"{first} {last}"

    def number(self):
        r = self.rng.random()
        return str(self.rng.randint(2, 99) if r < 0.5 else self.rng.randint(100, 999) if r < 0.75
                   else self.rng.randint(1, 99) * 100 if r < 0.85 else self.rng.randint(1000, 99999))

    def value(self, kind):
        """One random value of a kind named in the relations."""
        rng = self.rng
        if kind in WORDS:
            return self.word(kind)
        if kind in ("person", "place", "name"):
            return getattr(self, kind)()
        if kind == "number":
            return self.number()
        if kind == "year":
            return str(rng.randint(1650, 2035))
        if kind == "date":
            return self.pick([f"{rng.randint(1, 28)} {self.word('month')}", f"{self.word('month')} {rng.randint(1, 28)}",
                              f"{rng.randint(1, 28)} {self.word('month')} {rng.randint(1900, 2030)}"])
        if kind == "time":
            h = rng.randint(1, 12)
            return self.pick([f"{h} am", f"{h} pm", f"{rng.randint(6, 22)}:{self.pick(['00', '15', '30', '45', '10', '05'])}",
                              f"{h}:30 pm", f"{h}:15 am", "noon"])
        if kind == "price":
            n = rng.randint(2, 990)
            return self.pick([f"{n} euros", f"${n}", f"{n} dollars", f"{n}.{rng.randint(10, 99)} euros", f"${n}.{rng.randint(10, 99)}",
                              f"{n} pounds", f"{n} crowns"])
        if kind == "amount":
            return f"{self.number()} {self.word('unit')}"
        if kind == "days":
            i = rng.randrange(7)
            return f"{WORDS['day'][i]} to {WORDS['day'][(i + rng.randint(1, 5)) % 7]}"
        if kind == "hours":
            return self.pick([f"{rng.randint(6, 11)} am to {rng.randint(1, 11)} pm", f"{rng.randint(6, 11)}:{self.pick(['00', '30'])} to {rng.randint(12, 22)}:{self.pick(['00', '30', '15'])}",
                              f"{rng.randint(6, 11)} to {rng.randint(1, 8)}"])
        if kind == "address":
            return f"{rng.randint(1, 250)} {self.name()} {self.pick(['Street', 'Road', 'Lane', 'Avenue', 'Square'])}"
        if kind == "deed":
            return "the " + self.pick([f"{self.word('adj')} {self.word('object')}", f"{self.word('colour')} {self.word('object')}", self.word("object"), f"{self.name()} {self.word('object')}"])
        if kind == "span":
            return f"{rng.randint(2, 90)} {self.pick(['days', 'hours', 'weeks', 'minutes', 'months', 'years', 'business days'])}"
        if kind == "percent":
            return f"{rng.randint(1, 99)} percent" if self.chance(0.5) else f"{rng.randint(1, 99)}%"
        if kind == "code":
            return "".join(self.pick("ABCDEFGHKLMNPRSTVWXZ") for _ in range(rng.randint(1, 3))) + self.pick(["-", "", ""]) + str(rng.randint(10, 9999))
        if kind == "secret":
            return self.invented() + str(rng.randint(1, 99)) if self.chance(0.6) else self.invented() + "-" + self.invented()
        if kind == "phone":
            return f"{rng.randint(100, 999)} {rng.randint(1000, 9999)}" if self.chance(0.5) else f"+{rng.randint(10, 99)} {rng.randint(100, 999)} {rng.randint(100, 9999)}"
        if kind == "email":
            return f"{self.pick(['help', 'info', 'support', 'office', 'sales', self.invented()])}@{self.invented()}.{self.pick(['com', 'org', 'net', 'example'])}"
        if kind == "company":
            return self.name() + self.pick([" Ltd", " Labs", " Foods", " Motors", " Systems", "", "", " Bank", " Records", " and Sons", " Works"])
        if kind == "shop":
            return "the " + self.pick([self.name() + " ", self.name() + " ", ""]) + self.pick(
                "library museum bakery cafe pharmacy school hotel theatre gym bookshop market restaurant zoo pool cinema bank clinic".split())
        if kind == "product":
            return "the " + self.name() + self.pick(["", f" {rng.randint(2, 900)}", f" {self.pick('XSTZ')}{rng.randint(1, 9)}", " Pro", " Mini", " lamp", " phone", " bike"])
        if kind == "project":
            return self.pick(["Project ", "Operation ", "project "]) + self.name()
        if kind == "thing":
            return self.word("thing")
        if kind == "thingname":
            return "the " + self.pick([f"{self.name()} {self.word('thing')}", f"{self.word('adj')} {self.word('thing')}", f"{self.word('colour')} {self.word('object')}"])
        if kind == "dishname":
            return f"{self.name()} {self.word('dish')}"
        if kind == "animalname":
            return f"the {self.name()} {self.pick('frog bird beetle fish monkey bear snake deer bat whale moth wolf'.split())}"
        if kind == "team":
            return "the " + self.place() + " " + self.pick("Tigers Hawks Bears Rockets Foxes Giants Sharks Owls Wolves Comets".split())
        if kind == "event":
            return "the " + self.pick([self.name() + " ", self.place() + " ", ""]) + self.pick("festival conference meeting workshop fair concert race exhibition wedding market parade summit".split())
        if kind == "ship":
            return "the ship " + self.name() if self.chance(0.5) else "the " + self.name()
        if kind == "book":
            return f'"The {self.word("adj").capitalize()} {self.word("object").capitalize()}"' if self.chance(0.5) else f'"{self.name()}"'
        if kind == "order":
            return f"order {rng.randint(100, 99999)}" if self.chance(0.6) else f"ticket {self.value('code')}"
        if kind == "room":
            return f"room {rng.randint(1, 500)}" if self.chance(0.6) else f"the {self.name()} room"
        if kind == "server":
            return self.pick(["server ", "the server ", "the service "]) + self.invented()
        if kind == "anyvalue":
            return self.value(self.pick(["number", "name", "colour", "amount", "code", "material", "person", "price", "place", "date", "food"]))
        raise KeyError(kind)


# ---------------------------------------------------------------- relations

# subject kind: list of (value kind, statements, questions, answer, questions for the subject or None).
# {s} subject, {v} value, {x} one more slot whose kind stands in braces as {x:kind} in the first statement.
RELATIONS = {
    "person": [
        ("job", ["{s} works as a {v}.", "{s} is a {v}.", "{s} has been a {v} for years.", "{s} earns a living as a {v}."],
         ["What does {s} do?", "What is {s}'s job?", "What is the job of {s}?", "What does {s} do for a living?", "What is the profession of {s}?", "What does {s} work as?"],
         "{s} works as a {v}.", ["Who works as a {v}?", "Who is a {v}?", "Who is the {v}?"]),
        ("place", ["{s} lives in {v}.", "{s} has a house in {v}.", "The home of {s} is in {v}.", "{s} moved to {v} last year."],
         ["Where does {s} live?", "In which town does {s} live?", "Where is {s}'s home?", "What town does {s} live in?"],
         "{s} lives in {v}.", ["Who lives in {v}?", "Who has a house in {v}?"]),
        ("place", ["{s} was born in {v}.", "{s} comes from {v}.", "{s} grew up in {v}.", "The birthplace of {s} is {v}."],
         ["Where was {s} born?", "Where does {s} come from?", "Where is {s} from?", "What is the birthplace of {s}?"],
         "{s} was born in {v}.", ["Who was born in {v}?", "Who comes from {v}?"]),
        ("year", ["{s} was born in the year {v}.", "The year of birth of {s} is {v}.", "{s} was born in {v}."],
         ["When was {s} born?", "In which year was {s} born?", "What year was {s} born?"], "{s} was born in {v}.", None),
        ("name", ["{s} has a {x:animal} named {v}.", "{s} owns a {x} called {v}.", "{s}'s {x} is called {v}.", "The name of {s}'s {x} is {v}."],
         ["What is the name of {s}'s {x}?", "What is {s}'s {x} called?", "How is {s}'s {x} called?", "What's the name of the {x} of {s}?"],
         "{s}'s {x} is called {v}.", ["Who has a {x} called {v}?", "Who owns the {x} {v}?"]),
        ("colour", ["{s}'s favourite colour is {v}.", "The favourite colour of {s} is {v}.", "{s} likes the colour {v} best."],
         ["What is {s}'s favourite colour?", "What is the favourite colour of {s}?", "Which colour does {s} like best?", "What's {s}'s favorite color?"],
         "{s}'s favourite colour is {v}.", None),
        ("food", ["{s}'s favourite food is {v}.", "{s} likes to eat {v}.", "{s} loves {v}.", "{s} eats {v} every day."],
         ["What does {s} like to eat?", "What is {s}'s favourite food?", "What is the favourite food of {s}?", "What food does {s} love?"],
         "{s} likes to eat {v}.", ["Who likes to eat {v}?", "Who loves {v}?"]),
        ("hobby", ["{s}'s hobby is {v}.", "{s} spends every weekend {v}.", "The hobby of {s} is {v}.", "{s} enjoys {v}."],
         ["What is {s}'s hobby?", "What does {s} do for fun?", "What is the hobby of {s}?", "What does {s} enjoy?"],
         "{s}'s hobby is {v}.", ["Whose hobby is {v}?", "Who enjoys {v}?"]),
        ("language", ["{s} speaks {v}.", "{s} is fluent in {v}.", "The mother tongue of {s} is {v}.", "{s} learned {v} at school."],
         ["Which language does {s} speak?", "What language does {s} speak?", "What is the mother tongue of {s}?", "Which language did {s} learn?"],
         "{s} speaks {v}.", ["Who speaks {v}?", "Who is fluent in {v}?"]),
        ("instrument", ["{s} plays the {v}.", "{s} learned to play the {v}.", "{s} practises the {v} every evening."],
         ["Which instrument does {s} play?", "What does {s} play?", "What instrument does {s} play?", "What instrument did {s} learn?"],
         "{s} plays the {v}.", ["Who plays the {v}?"]),
        ("number", ["{s} is {v} years old.", "{s} turned {v} this year.", "The age of {s} is {v}."],
         ["How old is {s}?", "What is the age of {s}?", "What is {s}'s age?"], "{s} is {v} years old.", ["Who is {v} years old?"]),
        ("colour", ["{s} drives a {v} {x:common}.", "{s} owns a {v} {x}.", "{s} has a {v} {x}.", "{s}'s {x} is {v}."],
         ["What colour is {s}'s {x}?", "What is the colour of {s}'s {x}?", "Which colour does {s}'s {x} have?", "What color is the {x} of {s}?"],
         "{s}'s {x} is {v}.", None),
        ("company", ["{s} works for {v}.", "{s} is employed at {v}.", "{s} has a job at {v}.", "{s}'s employer is {v}."],
         ["Where does {s} work?", "Who does {s} work for?", "What company does {s} work for?", "Who is the employer of {s}?"],
         "{s} works for {v}.", ["Who works for {v}?", "Who is employed at {v}?"]),
        ("phone", ["{s}'s phone number is {v}.", "You can call {s} at {v}.", "The phone number of {s} is {v}."],
         ["What is {s}'s phone number?", "What is the phone number of {s}?", "How can I call {s}?"], "{s}'s phone number is {v}.", None),
        ("person", ["{s} is married to {v}.", "{s} married {v} last spring.", "The partner of {s} is {v}."],
         ["Who is {s} married to?", "Who did {s} marry?", "Who is the partner of {s}?"], "{s} is married to {v}.", None),
        ("object", ["{s} {x:verb} the {v}.", "Yesterday {s} {x} the {v}.", "Last week {s} {x} a {v}."],
         ["What did {s} do with the {v}?", "What did {s} do to the {v}?"], "{s} {x} the {v}.", ["Who {x} the {v}?"]),
        ("place", ["{s} travelled to {v} in {x:month}.", "In {x} {s} visited {v}.", "{s} went to {v} in {x}."],
         ["Where did {s} go in {x}?", "Where did {s} travel in {x}?", "What did {s} visit in {x}?"], "{s} travelled to {v} in {x}.",
         ["Who travelled to {v}?", "Who went to {v}?"]),
        ("number", ["{s} has {v} {x:common}s.", "{s} owns {v} {x}s.", "{s} bought {v} {x}s."],
         ["How many {x}s does {s} have?", "How many {x}s did {s} get?", "What number of {x}s does {s} own?"], "{s} has {v} {x}s.", ["Who has {v} {x}s?"]),
        ("object", ["{s} collects {v}s.", "{s} has a large collection of {v}s.", "{s} is known for collecting {v}s."],
         ["What does {s} collect?", "What kind of things does {s} collect?"], "{s} collects {v}s.", ["Who collects {v}s?"]),
    ],
    "place": [
        ("number", ["{s} has {v} inhabitants.", "The population of {s} is {v}.", "About {v} people live in {s}."],
         ["How many people live in {s}?", "What is the population of {s}?", "How many inhabitants does {s} have?"], "{s} has {v} inhabitants.", None),
        ("person", ["The mayor of {s} is {v}.", "{v} is the mayor of {s}.", "{s} elected {v} as mayor."],
         ["Who is the mayor of {s}?", "What is the name of the mayor of {s}?", "Who runs {s}?"], "The mayor of {s} is {v}.", None),
        ("name", ["{s} lies on the river {v}.", "The river {v} flows through {s}.", "The river in {s} is the {v}."],
         ["Which river flows through {s}?", "On which river does {s} lie?", "What is the river in {s} called?"], "The river {v} flows through {s}.", None),
        ("crop", ["{s} is known for its {v}.", "{s} exports {v}.", "The main product of {s} is {v}."],
         ["What is {s} known for?", "What does {s} export?", "What is the main product of {s}?", "What is {s} famous for?"], "{s} is known for its {v}.",
         ["Which town is known for its {v}?", "Which place exports {v}?"]),
        ("year", ["{s} was founded in {v}.", "The town of {s} dates from {v}.", "Settlers founded {s} in {v}."],
         ["When was {s} founded?", "In which year was {s} founded?", "How old is the town of {s}?"], "{s} was founded in {v}.", None),
        ("day", ["The market in {s} is held every {v}.", "{s} has its market on {v}.", "Every {v} there is a market in {s}."],
         ["When is the market in {s}?", "On which day is the market in {s}?", "What day is market day in {s}?"], "The market in {s} is on {v}.", None),
        ("amount", ["{s} lies {v} from {x:place}.", "It is {v} from {x} to {s}.", "The way from {s} to {x} takes {v}."],
         ["How far is {s} from {x}?", "How far is it from {s} to {x}?", "How long is the way from {s} to {x}?"], "{s} lies {v} from {x}.", None),
        ("place", ["{s} is the capital of {v}.", "The capital of {v} is {s}.", "{v} has {s} as its capital."],
         ["{s} is the capital of what?", "Which country has {s} as its capital?"], "{s} is the capital of {v}.", ["What is the capital of {v}?", "Which town is the capital of {v}?"]),
        ("colour", ["The sky over {s} is {v}.", "In {s} the sky is {v}.", "{s} has a {v} sky."],
         ["What colour is the sky over {s}?", "What colour is the sky in {s}?", "What color is the sky in {s}?"], "The sky over {s} is {v}.", None),
        ("material", ["The bridge in {s} is made of {v}.", "{s} has a bridge of {v}.", "In {s} there is a bridge built of {v}."],
         ["What is the bridge in {s} made of?", "Of what material is the bridge in {s}?"], "The bridge in {s} is made of {v}.", None),
    ],
    "shop": [
        ("time", ["{s} opens at {v}.", "{s} is open from {v}.", "The doors of {s} open at {v}.", "At {v} {s} opens."],
         ["When does {s} open?", "What time does {s} open?", "At what time does {s} open?", "From when is {s} open?"], "{s} opens at {v}.", None),
        ("time", ["{s} closes at {v}.", "{s} shuts at {v}.", "Closing time at {s} is {v}.", "At {v} {s} closes."],
         ["When does {s} close?", "What time does {s} close?", "What is the closing time of {s}?", "Until when is {s} open?"], "{s} closes at {v}.", None),
        ("address", ["The address of {s} is {v}.", "{s} is at {v}.", "You find {s} at {v}."],
         ["What is the address of {s}?", "What address does {s} have?", "In which street is {s}?"], "The address of {s} is {v}.", None),
        ("hours", ["{s} is open from {v}.", "The opening hours of {s} are {v}.", "Opening hours at {s}: {v}."],
         ["What are the opening hours of {s}?", "What hours is {s} open?"], "The opening hours of {s} are {v}.", None),
        ("day", ["{s} is closed on {v}.", "On {v} {s} stays closed.", "{s} does not open on {v}."],
         ["When is {s} closed?", "On which day is {s} closed?", "Which day is {s} not open?"], "{s} is closed on {v}.", None),
        ("price", ["A ticket for {s} costs {v}.", "Entry to {s} costs {v}.", "{s} charges {v} for entry.", "Visitors pay {v} to enter {s}."],
         ["How much is a ticket for {s}?", "How much does {s} cost?", "What does entry to {s} cost?", "What is the price of a ticket for {s}?"], "A ticket for {s} costs {v}.", None),
        ("place", ["{s} is in {v}.", "{s} stands in {v}.", "You find {s} in {v}.", "{s} is located in {v}."],
         ["Where is {s}?", "In which town is {s}?", "Where can I find {s}?", "Where is {s} located?"], "{s} is in {v}.", None),
        ("person", ["The owner of {s} is {v}.", "{s} belongs to {v}.", "{v} owns {s}.", "{s} is run by {v}."],
         ["Who owns {s}?", "Who is the owner of {s}?", "Who does {s} belong to?", "Who runs {s}?"], "{v} owns {s}.", None),
        ("phone", ["The phone number of {s} is {v}.", "Call {s} at {v}.", "{s} can be reached at {v}."],
         ["What is the phone number of {s}?", "How can I call {s}?", "What number does {s} have?"], "The phone number of {s} is {v}.", None),
        ("food", ["{s} serves {v}.", "{s} is famous for its {v}.", "At {s} you can eat {v}."],
         ["What does {s} serve?", "What can I eat at {s}?", "What food is {s} famous for?"], "{s} serves {v}.", None),
    ],
    "company": [
        ("person", ["The {x:role} of {s} is {v}.", "{v} is the {x} of {s}.", "{s} hired {v} as its {x}.", "{v} became {x} of {s}."],
         ["Who is the {x} of {s}?", "What is the name of the {x} of {s}?", "Who became {x} of {s}?", "Who works as {x} at {s}?"], "The {x} of {s} is {v}.", None),
        ("year", ["{s} was founded in {v}.", "{s} started in {v}.", "The company {s} was set up in {v}."],
         ["When was {s} founded?", "In which year was {s} founded?", "When did {s} start?", "What year was {s} set up?"], "{s} was founded in {v}.", None),
        ("place", ["{s} is based in {v}.", "The head office of {s} is in {v}.", "{s} has its headquarters in {v}."],
         ["Where is {s} based?", "Where is the head office of {s}?", "Where are the headquarters of {s}?", "Where is {s}?"], "{s} is based in {v}.", None),
        ("number", ["{s} has {v} employees.", "{s} employs {v} people.", "{v} people work at {s}."],
         ["How many employees does {s} have?", "How many people work at {s}?", "How many people does {s} employ?"], "{s} has {v} employees.", None),
        ("object", ["{s} makes {v}s.", "{s} produces {v}s.", "{s} is a maker of {v}s.", "{s} sells {v}s."],
         ["What does {s} make?", "What does {s} produce?", "What does {s} sell?"], "{s} makes {v}s.", ["Which company makes {v}s?", "Who makes {v}s?"]),
        ("person", ["{s} was founded by {v}.", "{v} founded {s}.", "The founder of {s} is {v}."],
         ["Who founded {s}?", "Who is the founder of {s}?", "Who started {s}?"], "{v} founded {s}.", None),
        ("email", ["The email address of {s} is {v}.", "Write to {s} at {v}.", "{s} answers mail at {v}."],
         ["What is the email address of {s}?", "What is the email of {s}?", "How do I write to {s}?"], "The email address of {s} is {v}.", None),
        ("price", ["{s} made a profit of {v}.", "The profit of {s} was {v}.", "Last year {s} earned {v}."],
         ["How much profit did {s} make?", "What was the profit of {s}?", "How much did {s} earn?"], "{s} made a profit of {v}.", None),
    ],
    "product": [
        ("price", ["{s} costs {v}.", "The price of {s} is {v}.", "{s} is sold for {v}.", "You can buy {s} for {v}."],
         ["How much does {s} cost?", "What is the price of {s}?", "How much is {s}?", "What does {s} cost?"], "{s} costs {v}.", ["What costs {v}?"]),
        ("material", ["{s} is made of {v}.", "{s} has a body of {v}.", "The material of {s} is {v}."],
         ["What is {s} made of?", "What material is {s} made of?", "What is the material of {s}?"], "{s} is made of {v}.", None),
        ("colour", ["{s} is {v}.", "{s} comes in {v}.", "The colour of {s} is {v}.", "{s} is painted {v}."],
         ["What colour is {s}?", "What is the colour of {s}?", "What color is {s}?", "In which colour does {s} come?"], "{s} is {v}.", None),
        ("amount", ["{s} weighs {v}.", "The weight of {s} is {v}.", "{s} has a weight of {v}."],
         ["How much does {s} weigh?", "What is the weight of {s}?", "How heavy is {s}?"], "{s} weighs {v}.", None),
        ("span", ["{s} has a warranty of {v}.", "The warranty of {s} lasts {v}.", "The warranty for {s} is {v}."],
         ["How long is the warranty of {s}?", "What warranty does {s} have?", "How long does the warranty for {s} last?"], "The warranty of {s} is {v}.", None),
        ("person", ["{s} was designed by {v}.", "{v} designed {s}.", "The designer of {s} is {v}."],
         ["Who designed {s}?", "Who is the designer of {s}?"], "{v} designed {s}.", None),
        ("span", ["The battery of {s} lasts {v}.", "{s} runs for {v} on one charge.", "On one charge {s} works for {v}."],
         ["How long does the battery of {s} last?", "How long does {s} run on one charge?", "What is the battery life of {s}?"], "The battery of {s} lasts {v}.", None),
    ],
    "project": [
        ("person", ["{s} is led by {v}.", "{v} leads {s}.", "The leader of {s} is {v}.", "{v} is in charge of {s}."],
         ["Who leads {s}?", "Who is the leader of {s}?", "Who is in charge of {s}?"], "{v} leads {s}.", None),
        ("date", ["{s} starts on {v}.", "The start of {s} is on {v}.", "{s} begins on {v}."],
         ["When does {s} start?", "When does {s} begin?", "What is the start date of {s}?"], "{s} starts on {v}.", None),
        ("date", ["The deadline of {s} is {v}.", "{s} must be finished by {v}.", "{s} is due on {v}."],
         ["What is the deadline of {s}?", "When is {s} due?", "When must {s} be finished?"], "The deadline of {s} is {v}.", None),
        ("price", ["{s} has a budget of {v}.", "The budget of {s} is {v}.", "{s} may spend {v}."],
         ["What is the budget of {s}?", "How much may {s} spend?", "How big is the budget of {s}?"], "The budget of {s} is {v}.", None),
        ("colour", ["The code word for {s} is {v}.", "{s} uses the code word {v}.", "{s} goes by the code word {v}."],
         ["What is the code word for {s}?", "Which code word does {s} use?"], "The code word for {s} is {v}.", None),
    ],
    "event": [
        ("date", ["{s} takes place on {v}.", "{s} is on {v}.", "The date of {s} is {v}.", "{s} will be held on {v}."],
         ["When is {s}?", "When does {s} take place?", "What is the date of {s}?", "On which date is {s}?"], "{s} is on {v}.", None),
        ("place", ["{s} takes place in {v}.", "{s} is held in {v}.", "This year {v} hosts {s}.", "{s} will be in {v}."],
         ["Where is {s}?", "Where does {s} take place?", "Where is {s} held?", "Which town hosts {s}?"], "{s} takes place in {v}.", None),
        ("time", ["{s} starts at {v}.", "{s} begins at {v}.", "The start of {s} is at {v}."],
         ["What time does {s} start?", "When does {s} start?", "At what time does {s} begin?"], "{s} starts at {v}.", None),
        ("number", ["{v} people came to {s}.", "{s} had {v} visitors.", "{s} was attended by {v} people."],
         ["How many people came to {s}?", "How many visitors did {s} have?", "How many people attended {s}?"], "{v} people came to {s}.", None),
        ("person", ["{s} was opened by {v}.", "{v} opened {s}.", "The speaker at {s} is {v}.", "{v} speaks at {s}."],
         ["Who opened {s}?", "Who speaks at {s}?", "Who is the speaker at {s}?"], "{v} opened {s}.", None),
        ("person", ["{v} won {s}.", "The winner of {s} was {v}.", "{s} was won by {v}."],
         ["Who won {s}?", "Who was the winner of {s}?"], "{v} won {s}.", None),
    ],
    "animalname": [
        ("food", ["{s} eats {v}.", "{s} feeds on {v}.", "The food of {s} is {v}.", "{s} lives on {v}."],
         ["What does {s} eat?", "What does {s} feed on?", "What is the food of {s}?"], "{s} eats {v}.", None),
        ("place", ["{s} lives in {v}.", "{s} is found in {v}.", "The home of {s} is {v}."],
         ["Where does {s} live?", "Where is {s} found?", "What is the home of {s}?"], "{s} lives in {v}.", None),
        ("amount", ["{s} can live for {v}.", "{s} reaches {v}.", "{s} grows to {v}."],
         ["How old can {s} get?", "How big does {s} grow?", "What size does {s} reach?"], "{s} reaches {v}.", None),
        ("colour", ["{s} is {v}.", "{s} has a {v} back.", "The colour of {s} is {v}."],
         ["What colour is {s}?", "What is the colour of {s}?", "What color is {s}?"], "{s} is {v}.", None),
        ("person", ["{s} was discovered by {v}.", "{v} discovered {s}.", "{v} was the first to describe {s}."],
         ["Who discovered {s}?", "Who was the first to describe {s}?"], "{v} discovered {s}.", None),
    ],
    "team": [
        ("person", ["The coach of {s} is {v}.", "{s} are coached by {v}.", "{v} coaches {s}."],
         ["Who is the coach of {s}?", "Who coaches {s}?"], "The coach of {s} is {v}.", None),
        ("number", ["{s} scored {v} points.", "{s} got {v} points.", "{v} points went to {s}."],
         ["How many points did {s} score?", "How many points did {s} get?"], "{s} scored {v} points.", None),
        ("person", ["The best player of {s} is {v}.", "{v} is the star of {s}.", "{v} plays for {s}."],
         ["Who is the best player of {s}?", "Who is the star of {s}?", "Who plays for {s}?"], "{v} plays for {s}.", None),
        ("colour", ["{s} play in {v}.", "{s} wear {v} shirts.", "The colour of {s} is {v}."],
         ["What colour do {s} play in?", "What colour are the shirts of {s}?", "What is the colour of {s}?"], "{s} play in {v}.", None),
    ],
    "ship": [
        ("person", ["The captain of {s} is {v}.", "{v} commands {s}.", "{s} sails under captain {v}."],
         ["Who is the captain of {s}?", "Who commands {s}?"], "The captain of {s} is {v}.", None),
        ("crop", ["{s} carries {v}.", "{s} is loaded with {v}.", "The cargo of {s} is {v}."],
         ["What does {s} carry?", "What is the cargo of {s}?", "What is {s} loaded with?"], "{s} carries {v}.", None),
        ("place", ["{s} sails to {v}.", "{s} is bound for {v}.", "The next port of {s} is {v}."],
         ["Where does {s} sail?", "What is the next port of {s}?", "Where is {s} bound for?", "Where is {s} going?"], "{s} sails to {v}.", None),
        ("year", ["{s} was built in {v}.", "{s} dates from {v}.", "Workers built {s} in {v}."],
         ["When was {s} built?", "In which year was {s} built?", "How old is {s}?"], "{s} was built in {v}.", None),
    ],
    "book": [
        ("person", ["{s} was written by {v}.", "{v} wrote {s}.", "The author of {s} is {v}."],
         ["Who wrote {s}?", "Who is the author of {s}?"], "{v} wrote {s}.", None),
        ("year", ["{s} was published in {v}.", "{s} came out in {v}.", "The first edition of {s} is from {v}."],
         ["When was {s} published?", "When did {s} come out?", "In which year was {s} published?"], "{s} was published in {v}.", None),
        ("number", ["{s} has {v} pages.", "{s} is {v} pages long.", "The number of pages of {s} is {v}."],
         ["How many pages does {s} have?", "How long is {s}?"], "{s} has {v} pages.", None),
        ("person", ["The hero of {s} is {v}.", "{s} tells the story of {v}.", "{s} is about {v}."],
         ["Who is the hero of {s}?", "Who is {s} about?"], "The hero of {s} is {v}.", None),
    ],
    "order": [
        ("date", ["{s} was shipped on {v}.", "We shipped {s} on {v}.", "The shipping date of {s} is {v}."],
         ["When was {s} shipped?", "What is the shipping date of {s}?"], "{s} was shipped on {v}.", None),
        ("person", ["{s} belongs to {v}.", "{v} placed {s}.", "The customer of {s} is {v}."],
         ["Who placed {s}?", "Who is the customer of {s}?", "Who does {s} belong to?"], "{v} placed {s}.", None),
        ("price", ["The total of {s} is {v}.", "{s} comes to {v}.", "{s} has a total of {v}."],
         ["What is the total of {s}?", "How much is {s}?"], "The total of {s} is {v}.", None),
        ("place", ["{s} goes to {v}.", "{s} will be delivered to {v}.", "The destination of {s} is {v}."],
         ["Where does {s} go?", "Where will {s} be delivered?", "What is the destination of {s}?"], "{s} goes to {v}.", None),
    ],
    "room": [
        ("number", ["{s} has {v} seats.", "{s} seats {v} people.", "There is space for {v} people in {s}."],
         ["How many seats does {s} have?", "How many people fit in {s}?", "What is the capacity of {s}?"], "{s} has {v} seats.", None),
        ("object", ["There is a {v} in {s}.", "{s} has a {v}.", "In {s} stands a {v}."],
         ["What is in {s}?", "What does {s} have?", "What stands in {s}?"], "There is a {v} in {s}.", ["Where is the {v}?"]),
        ("person", ["{s} is booked by {v}.", "{v} booked {s}.", "{v} uses {s} today."],
         ["Who booked {s}?", "Who uses {s}?", "Who is in {s}?"], "{v} booked {s}.", None),
        ("code", ["The door code of {s} is {v}.", "{s} opens with the code {v}.", "Use the code {v} for {s}."],
         ["What is the door code of {s}?", "What is the code for {s}?", "How do I open {s}?"], "The code of {s} is {v}.", None),
    ],
    "server": [
        ("number", ["{s} listens on port {v}.", "{s} runs on port {v}.", "The port of {s} is {v}."],
         ["On which port does {s} listen?", "What is the port of {s}?", "Which port does {s} use?"], "{s} listens on port {v}.", None),
        ("secret", ["The password of {s} is {v}.", "{s} has the password {v}.", "Log in to {s} with {v}."],
         ["What is the password of {s}?", "What is the password for {s}?", "How do I log in to {s}?"], "The password of {s} is {v}.", None),
        ("person", ["{s} is maintained by {v}.", "{v} maintains {s}.", "The admin of {s} is {v}."],
         ["Who maintains {s}?", "Who is the admin of {s}?", "Who looks after {s}?"], "{v} maintains {s}.", None),
        ("amount", ["The timeout of {s} is {v}.", "{s} has a timeout of {v}.", "{s} gives up after {v}."],
         ["What is the timeout of {s}?", "What timeout does {s} have?", "When does {s} give up?"], "The timeout of {s} is {v}.", None),
    ],
    "dishname": [
        ("food", ["The main ingredient of {s} is {v}.", "{s} is made with {v}.", "{s} contains {v}."],
         ["What is in {s}?", "What is {s} made with?", "What is the main ingredient of {s}?"], "{s} is made with {v}.", None),
        ("span", ["{s} must cook for {v}.", "Cook {s} for {v}.", "{s} takes {v} to cook."],
         ["How long must {s} cook?", "How long do I cook {s}?", "How long does {s} take?"], "{s} must cook for {v}.", None),
        ("place", ["{s} comes from {v}.", "{s} was first made in {v}.", "The origin of {s} is {v}."],
         ["Where does {s} come from?", "Where was {s} first made?", "What is the origin of {s}?"], "{s} comes from {v}.", None),
    ],
    "thingname": [
        ("anyvalue", ["The {x:attr} of {s} is {v}.", "{s} has the {x} {v}.", "{v} is the {x} of {s}.", "As its {x}, {s} has {v}."],
         ["What is the {x} of {s}?", "What {x} does {s} have?", "Which {x} does {s} have?", "Tell me the {x} of {s}."], "The {x} of {s} is {v}.", None),
        ("anyvalue", ["The {x:attr} of {s} is {v}.", "{s} has the {x} {v}."],
         ["What is the {x} of {s}?", "What is {s}'s {x}?"], "The {x} of {s} is {v}.", None),
        ("place", ["{s} is kept in {v}.", "You find {s} in {v}.", "{s} was found in {v}."],
         ["Where is {s}?", "Where is {s} kept?", "Where was {s} found?"], "{s} is in {v}.", None),
        ("person", ["{v} {x:verb} {s}.", "{s} was {x} by {v}."], ["Who {x} {s}?"], "{v} {x} {s}.", None),
    ],
    "deed": [
        ("person", ["{v} {x:verb} {s}.", "{s} was {x} by {v}.", "Yesterday {v} {x} {s}.", "It was {v} who {x} {s}."],
         ["Who {x} {s}?", "By whom was {s} {x}?", "Do you know who {x} {s}?"], "{v} {x} {s}.", None),
        ("place", ["{s} was {x:verb} in {v}.", "In {v} {s} was {x}.", "People say that {s} was {x} in {v}."],
         ["Where was {s} {x}?", "In which town was {s} {x}?", "At what place was {s} {x}?"], "{s} was {x} in {v}.", ["What was {x} in {v}?"]),
        ("date", ["{s} was {x:verb} on {v}.", "On {v} {s} was {x}.", "The date when {s} was {x} is {v}."],
         ["When was {s} {x}?", "On which date was {s} {x}?", "On what day was {s} {x}?"], "{s} was {x} on {v}.", None),
        ("person", ["{s} was {x:verb} for {v}.", "For {v} {s} was {x}."], ["For whom was {s} {x}?", "Who was {s} {x} for?"], "{s} was {x} for {v}.", None),
    ],
    # Facts of everyday documents, where the question names no subject.
    "": [
        ("span", ["Items can be returned within {v}.", "Returns are accepted within {v} of purchase.", "You have {v} to return an item.", "We refund any item within {v}."],
         ["How long do I have to return an item?", "Within what time can I return an item?", "What is the return policy?", "How long can I get a refund?", "When can I return something?"], "You can return an item within {v}.", None),
        ("span", ["Shipping takes {v}.", "Orders arrive within {v}.", "Delivery takes {v}.", "We deliver within {v}."],
         ["How long does shipping take?", "How long does delivery take?", "When will my order arrive?", "How fast do you deliver?"], "Delivery takes {v}.", None),
        ("price", ["Shipping costs {v}.", "The delivery fee is {v}.", "We charge {v} for delivery."],
         ["How much is shipping?", "What does delivery cost?", "What is the delivery fee?", "How much does shipping cost?"], "Delivery costs {v}.", None),
        ("secret", ["The wifi password is {v}.", "The password for the wifi is {v}.", "Use {v} as the wifi password.", "Guests log in to the wifi with the password {v}."],
         ["What is the wifi password?", "What's the wifi password?", "How do I get on the wifi?", "What is the password for the wifi?"], "The wifi password is {v}.", None),
        ("email", ["Our support email is {v}.", "You can reach support at {v}.", "Write to {v} for help."],
         ["What is the support email?", "How do I reach support?", "Where do I write for help?", "How can I contact support?"], "You can reach support at {v}.", None),
        ("phone", ["Our phone number is {v}.", "Call us at {v}.", "You can reach us by phone at {v}."],
         ["What is your phone number?", "How can I call you?", "What number do I call?", "What is the phone number?"], "The phone number is {v}.", None),
        ("time", ["The office opens at {v}.", "We open at {v}.", "Our opening time is {v}.", "The office is open from {v}."],
         ["When does the office open?", "When do you open?", "What time do you open?", "What is the opening time?"], "The office opens at {v}.", None),
        ("time", ["The office closes at {v}.", "We close at {v}.", "Closing time is {v}.", "The office is open until {v}."],
         ["When does the office close?", "When do you close?", "What time do you close?", "What is the closing time?"], "The office closes at {v}.", None),
        ("hours", ["We are open from {v}.", "The opening hours are {v}.", "Our hours are {v}.", "Opening hours: {v}."],
         ["What are the opening hours?", "What are your opening hours?", "What are your hours?"], "The opening hours are {v}.", None),
        ("days", ["We work from {v}.", "We are open {v}.", "The office is open {v}.", "You can visit us {v}."],
         ["On which days are you open?", "Which days are you open?", "On which days is the office open?"], "The office is open {v}.", None),
        ("address", ["Our address is {v}.", "The office is at {v}.", "You find us at {v}.", "Visit us at {v}."],
         ["What is your address?", "What is the address?", "Where is the office?", "Where are you located?", "Where can I find you?"], "The address is {v}.", None),
        ("day", ["We are closed on {v}.", "The office is closed on {v}.", "There is no service on {v}."],
         ["On which day are you closed?", "When are you closed?", "Which day is the office closed?"], "The office is closed on {v}.", None),
        ("price", ["Parking costs {v} per day.", "A parking space is {v} per day.", "We charge {v} a day for parking."],
         ["How much is parking?", "What does parking cost?", "How much does a parking space cost?"], "Parking costs {v} per day.", None),
        ("time", ["Check-in starts at {v}.", "You can check in from {v}.", "Rooms are ready at {v}."],
         ["When is check-in?", "When can I check in?", "What time does check-in start?"], "Check-in starts at {v}.", None),
        ("time", ["Check-out is at {v}.", "Please check out by {v}.", "Guests leave their rooms by {v}."],
         ["When is check-out?", "When do I have to check out?", "What time is check-out?"], "Check-out is at {v}.", None),
        ("time", ["Breakfast is served at {v}.", "Breakfast starts at {v}.", "You can have breakfast from {v}."],
         ["When is breakfast?", "What time is breakfast?", "When does breakfast start?"], "Breakfast starts at {v}.", None),
        ("span", ["Bookings can be cancelled {v} before arrival.", "You may cancel up to {v} before arrival.", "Free cancellation is possible up to {v} before."],
         ["When can I cancel?", "How late can I cancel a booking?", "Until when is cancellation free?"], "You can cancel up to {v} before arrival.", None),
        ("amount", ["The maximum upload size is {v}.", "Uploads may have at most {v}.", "Files up to {v} can be uploaded."],
         ["What is the maximum upload size?", "How large may an upload be?", "How big can a file be?"], "The maximum upload size is {v}.", None),
        ("span", ["The free trial lasts {v}.", "You can try it free for {v}.", "New users get a free trial of {v}."],
         ["How long is the free trial?", "How long can I try it?", "How long does the trial last?"], "The free trial lasts {v}.", None),
        ("price", ["The {x:adj} plan costs {v} per month.", "The price of the {x} plan is {v} per month.", "You pay {v} per month for the {x} plan."],
         ["How much is the {x} plan?", "What does the {x} plan cost?", "What is the price of the {x} plan?"], "The {x} plan costs {v} per month.", None),
        ("day", ["The {x:object} team meets on {v}.", "On {v} the {x} team has its meeting.", "The meeting of the {x} team is on {v}."],
         ["When does the {x} team meet?", "On which day does the {x} team meet?", "When is the meeting of the {x} team?"], "The {x} team meets on {v}.", None),
        ("person", ["Our new {x:role} is {v}.", "{v} is our {x}.", "The {x} is {v}.", "Please ask {v}, our {x}."],
         ["Who is the {x}?", "Who is your {x}?", "What is the name of the {x}?", "What is the {x} called?"], "The {x} is {v}.", None),
        ("place", ["The {x:object} is in {v}.", "You will find the {x} in {v}.", "We keep the {x} in {v}.", "The {x} was moved to {v}."],
         ["Where is the {x}?", "Where can I find the {x}?", "Where do you keep the {x}?"], "The {x} is in {v}.", None),
        ("colour", ["The {x:object} is {v}.", "We painted the {x} {v}.", "The colour of the {x} is {v}."],
         ["What colour is the {x}?", "What color is the {x}?", "Which colour does the {x} have?"], "The {x} is {v}.", None),
        ("person", ["The {x:object} belongs to {v}.", "{v} owns the {x}.", "The owner of the {x} is {v}."],
         ["Who owns the {x}?", "Whose is the {x}?", "Who does the {x} belong to?"], "The {x} belongs to {v}.", None),
        ("secret", ["The password is {v}.", "The secret word is {v}.", "Remember the password {v}."],
         ["What is the password?", "What is the secret word?", "Tell me the password."], "The password is {v}.", None),
        ("code", ["The {x:object} has the number {v}.", "The code for the {x} is {v}.", "The {x} code is {v}."],
         ["What is the code for the {x}?", "What is the {x} code?", "Which number does the {x} have?"], "The code for the {x} is {v}.", None),
        ("food", ["The best {x:dish} is {v}.", "{v} is the best {x}.", "I think {v} is the best {x}.", "We like {v} best as {x}."],
         ["What is the best {x}?", "Which {x} is the best?", "What {x} is best?"], "The best {x} is {v}.", None),
        ("name", ["My {x:animal} is called {v}.", "I have a {x} named {v}.", "The name of my {x} is {v}."],
         ["What is the name of the {x}?", "What is the {x} called?", "What is my {x} called?"], "The {x} is called {v}.", None),
    ],
}
# Any subject can have any attribute: a relation the model cannot know by heart.
for _kind, _relations in RELATIONS.items():
    if _kind:
        _relations.append(("anyvalue", ["The {x:attr} of {s} is {v}.", "{s} has the {x} {v}.", "As {x}, {s} has {v}.", "{v} is the {x} of {s}."],
                           ["What is the {x} of {s}?", "Which {x} does {s} have?", "What is {s}'s {x}?", "Tell me the {x} of {s}."], "The {x} of {s} is {v}.", None))
# Whole relations that training never sees: the answers must come from copying alone.
NEW_RELATIONS = {
    "person": [("object", ["{s} inherited a {v}."], ["What did {s} inherit?"], "", None),
               ("name", ["{s} studied at the university of {v}."], ["Where did {s} study?", "Which university did {s} attend?"], "", None),
               ("number", ["{s} wears shoes of size {v}."], ["What is the shoe size of {s}?"], "", None)],
    "place": [("year", ["A great fire destroyed {s} in {v}."], ["When did a fire destroy {s}?"], "", None),
              ("animal", ["The flag of {s} shows a {v}."], ["Which animal is on the flag of {s}?", "What does the flag of {s} show?"], "", None)],
    "company": [("company", ["{s} was bought by {v}."], ["Who bought {s}?"], "", None),
                ("number", ["{s} owns {v} trucks."], ["How many trucks does {s} own?"], "", None)],
    "": [("span", ["Passports are checked for {v}."], ["How long are passports checked?"], "", None),
         ("amount", ["The lake is {v} deep."], ["How deep is the lake?"], "", None),
         ("time", ["The last train leaves at {v}."], ["When does the last train leave?"], "", None)],
}

FILLER = """The weather was mild that week.|Many visitors come in summer.|Nobody knows why.|This was in the local newspaper.|
There is much to see.|Everyone was pleased with it.|The details can change.|It was a quiet day.|More news will follow soon.|
The work went on for a long time.|People still talk about it.|That is how it has always been.|Please read the notes carefully.|
We hope to see you soon.|The list is not complete.|This text was updated recently.|Most people agree.|Nothing else happened that day.|
Some parts are still missing.|There were no questions.|The rest is well known.|It rained in the evening.|Thank you for reading.|
Children are welcome.|Please be on time.|The view is beautiful.|All are invited.|Some say it is only a rumour.|
The report is short.|It is easy to get there by bus.""".replace("\n", "").split("|")

ABSENT = "The passage does not say."

# System, user. {c} is the passage as prose, {b} as a bullet list, {n} numbered, {q} the question.
WRAPPERS = [
    ("", "Context:\n{c}\n\nQuestion: {q}"), ("", "Context:\n{c}\n\nQuestion: {q}"), ("", "Context: {c}\n\nQuestion: {q}\n\nAnswer:"),
    ("", "Use the following context to answer the question.\n\n{c}\n\nQuestion: {q}"),
    ("", "Use the following context to answer.\n\nContext:\n{b}\n\nQuestion: {q}"),
    ("", "Answer the question from the passage.\n\nPassage:\n{c}\n\nQuestion: {q}"),
    ("", "{c}\n\n{q}"), ("", "{c} {q}"), ("", "{c}\n\nQuestion: {q}"), ("", "{q}\n\nContext:\n{c}"), ("", "{q}\n\n{c}"),
    ("", "Read this text:\n{c}\n\n{q}"), ("", "Here are some notes:\n{b}\n\n{q}"), ("", "Documents:\n{n}\n\nQuestion: {q}"),
    ("", "Passage: {c}\nQuestion: {q}\nAnswer:"), ("", "Based on this text, {q}\n\n{c}"), ("", "Information:\n{b}\n\n{q}"),
    ("", "<context>\n{c}\n</context>\n\n{q}"), ("", "\"{c}\"\n\n{q}"), ("", "Search results:\n{n}\n\nUser question: {q}"),
    ("Answer using only the context below.\n\nContext:\n{c}", "{q}"), ("Context:\n{b}", "{q}"), ("Context:\n{c}", "{q}"),
    ("You are a helpful assistant. Use the following context to answer.\n\n{c}", "{q}"),
    ("You are a helpful assistant. Answer the question from the context. If the answer is not in the context, say so.\n\nContext:\n{b}", "{q}"),
    ("Use the context to answer the question. If you don't know, say that you don't know.", "Context:\n{c}\n\nQuestion: {q}"),
    ("You are a helpful assistant.", "Context:\n{c}\n\nQuestion: {q}"), ("You are a helpful assistant.", "{c}\n\n{q}"),
    ("When answering the question or responding, use the context provided, if it is provided and relevant.", "Context:\n{b}\n\nQuestion: {q}"),
    ("Context:\n{b}\x00When answering the question or responding, use the context provided, if it is provided and relevant.", "{q}"),
    ("You answer questions about these documents:\n{n}", "{q}"), ("Answer from the passages.\n\n{n}", "{q}"),
    ("You are a support assistant. Here is what you know:\n{b}", "{q}"), ("Facts:\n{b}\n\nAnswer only from the facts.", "{q}"),
    ("{c}", "{q}"), ("Use these notes to answer:\n{b}", "Question: {q}"),
]
HELD_WRAPPERS = [
    ("", "Given the following text:\n{c}\n\nPlease answer: {q}"), ("", "Background:\n{b}\n\nMy question: {q}"),
    ("Reply based on the reference material.\n\nReference:\n{c}", "{q}"), ("", "### Context\n{c}\n\n### Question\n{q}"),
    ("You are an assistant for our customers. Knowledge base:\n{n}", "{q}"), ("", "I have this text: {c} Now tell me: {q}"),
]
SHORT_ORDERS = ["Answer shortly.", "Be brief.", "Answer with a few words.", "Answer in a few words.", "Keep your answers short.", "Be concise.",
                "Answer briefly.", "Give short answers.", "Reply with as few words as possible.", "Use short answers.", "Answer with one word if possible.",
                "You are a helpful assistant. Be concise.", "You give very short answers."]
PLAIN_SYSTEM = ["You are a helpful assistant.", "You are a helpful assistant", "You are a friendly assistant.", "You are a helpful AI assistant.",
                "You are a helpful, honest assistant.", "You are an assistant.", "Be helpful.", "You are a friendly and helpful assistant.",
                "You are tiny-chat, the assistant of Selvedge.", "Answer the user's questions.", "You are a chatbot.", "Be polite.", "Help the user."]
# Sentences of longer system prompts, which change nothing about the answer: the model has to learn to look past them.
SYSTEM_OPENING = ["{You are|You're|Act as|You act as|Be|You will be|I want you to be} {a|our|the} {{C}|helpful|friendly|polite|kind|smart|useful|cheerful|professional|patient|honest}{| and helpful| and friendly|, polite| AI| but careful} {assistant|chatbot|bot|guide|support agent|helper|expert|teacher|AI|model|agent|writer|librarian}{| on Selvedge| in Selvedge| for Selvedge| of {N}| at {N}| for {N}| in our shop| for our customers| on a website| that knows {W}s| for {W}s| running at the edge| inside a Worker}.",
                  "{This is|You are in} {a chat|a demo|a conversation|a test} {with a user|about Selvedge|on the website of {N}|with a customer|about {W}s}.",
                  "{Today is|The date is|It is} {Monday|Friday|1 May|12 June|a nice day|3 March}.", "You {work for|belong to|help|support} {{N}|Selvedge|the users|developers|our customers|{N} {N}}."]
SYSTEM_RULE = ["{Answer|Reply|Respond|Always answer|Please answer|Write} {in|with|using} {one|two|a few|three|one to three|at most two|one or two|full|plain|clear|simple} {short |complete |friendly |}{sentences|sentence|words of English|lines}.",
               "{Be|Stay|Always be|Please be|Try to be} {polite|helpful|friendly|kind|accurate|honest|nice|careful|cheerful|helpful and polite|clear|patient|on topic}.",
               "{Do not|Don't|Never|Please do not} {make things up|use {W}s|talk about {W}s|use markdown|invent facts|mention {N}|be rude|give advice about {W}s|use emojis|guess}.",
               "{Help the user|Answer the user|Answer questions|Help people|Help with questions|Talk to the user}{| about Selvedge| politely| as well as you can| about anything| with their {W}| step by step}.",
               "{If you don't know|If you do not know the answer|When unsure}, {say so|say that you don't know|ask|tell the user}.",
               "The {user|customer|reader} {likes {W}s|is {a beginner|an expert|a developer|from {N}}|speaks English|has a {W}|asks about Selvedge}.", "{Use|Write|Speak|Answer in} {plain English|simple words|English|a friendly tone|British English|a formal style}."]


# ---------------------------------------------------------------- passages

def article(text):
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", text)
    return re.sub(r"(s|sh|ch|x)s\b(?=[.?])", r"\1es", text) if "xs" in text or "chs" in text else text


def sentence(template, fact):
    text = article(template.format(s=fact["s"], v=fact["v"], x=fact["x"]))
    return text[0].upper() + text[1:]


class Fact(dict):
    """One fact: subject s, value v, extra slot x, relation index r, its kind and which wording states it."""


def make_fact(lex, kind, s, i_relation, relations):
    vkind, statements, questions, answer, inverse = relations[i_relation]
    m = re.search(r"\{x:(\w+)\}", statements[0])
    x = lex.value(m.group(1)) if m else ""
    return Fact(kind=kind, s=s, v=lex.value(vkind), x=x, r=i_relation, i_st=lex.rng.randrange(len(statements)), rel=relations[i_relation])


def state(fact):
    return sentence(re.sub(r"\{x:\w+\}", "{x}", fact["rel"][1][fact["i_st"]]), fact)


def pair_is_held(fact, i_question):
    """Whether this statement wording with this question wording is kept from training."""
    return len(fact["rel"][1]) > 2 and crc(f"{fact['kind']}{fact['r']}/{fact['i_st']}/{i_question}") % 6 == 0


def ask(lex, fact):
    """A question about the fact, the full answer, the short one, and whether the wording pair is held out."""
    _, _, questions, answer, inverse = fact["rel"]
    if inverse and lex.chance(0.3):
        return sentence(lex.pick(inverse), fact), sentence(answer, fact), fact["s"], False
    for _ in range(8):
        i = lex.rng.randrange(len(questions))
        if pair_is_held(fact, i) == lex.evaluate:
            break
    full = sentence(answer, fact) if answer else state(fact)
    short = fact["v"] if "{v}" in (answer or "{v}") and "with the" not in questions[i] and "to the" not in questions[i] else fact["x"]
    return sentence(questions[i], fact), full, short, pair_is_held(fact, i)


def passage_facts(lex, n, relations=RELATIONS):
    """`n` facts about a few subjects. Subjects of one kind share relations, so that a question has distractors."""
    facts, seen = [], set()
    kinds = list(relations)
    while len(facts) < n:
        kind = lex.pick(kinds) if lex.chance(0.8) else ("person" if lex.chance(0.5) else "")
        rels = relations[kind]
        if not rels:
            continue
        if kind == "":
            picks = lex.rng.sample(range(len(rels)), min(len(rels), lex.rng.randint(1, 4)))
            new = [make_fact(lex, "", "", i, rels) for i in picks]
        else:
            picks = lex.rng.sample(range(len(rels)), min(len(rels), lex.rng.randint(1, 3)))
            new = []
            for _ in range(lex.rng.randint(1, 3)):
                s = lex.value(kind)
                new += [make_fact(lex, kind, s, i, rels) for i in picks if lex.chance(0.8)]
        for f in new:
            # A question must have one answer: no two facts with the same words on the asking side.
            keys = {(f["kind"], r[2][0].format(s=f["s"], v="", x=f["x"])) for r in [f["rel"]]} | {("value", f["v"])}
            first = f["s"].split(" ")[0] if f["kind"] == "person" else None
            if keys & seen or (first and any(g["kind"] == "person" and g["s"] != f["s"] and g["s"].split(" ")[0] == first for g in facts)):
                continue
            seen |= keys
            facts.append(f)
    return facts[:n]


def pronoun(fact):
    if fact["kind"] == "person":
        return ("She", "Her") if fact["s"].split(" ")[0] in SHE or (fact["s"].split(" ")[0] not in FIRST and crc(fact["s"]) % 2) else ("He", "His")
    return ("They", "Their") if fact["kind"] == "team" else ("It", "Its")


def passage_sentences(lex, facts):
    """The facts as sentences, some joined by 'and', some with a pronoun, some with filler between them."""
    out, last = [], None
    for f in facts:
        st = state(f)
        s = f["s"][:1].upper() + f["s"][1:]
        same = last is not None and f["s"] and f["s"] == last
        if same and st.startswith(s + " ") and out and out[-1].startswith(s + " ") and " and " not in out[-1] and lex.chance(0.25):
            out[-1] = out[-1][:-1] + " and " + st[len(s) + 1:]
        elif same and st.startswith(s + " ") and lex.chance(0.45):
            out.append(pronoun(f)[0] + st[len(s):])
        elif same and st.startswith(s + "'s ") and lex.chance(0.45):
            out.append(pronoun(f)[1] + st[len(s) + 2:])
        else:
            out.append(st)
        last = f["s"]
        if lex.chance(0.06):
            out.append(lex.pick(FILLER))
            last = None
    return out


def layout(lex, facts, wrapper, question):
    """Fills a wrapper: list of (role, text) up to the first question."""
    system, user = wrapper
    if not system and lex.chance(0.15):
        system = plain_system(lex)
    sents = passage_sentences(lex, facts)
    if "{b}" in system + user or "{n}" in system + user:
        docs = []
        while sents:
            k = 1 if lex.chance(0.6) else lex.rng.randint(2, 4)
            # A pronoun must stay in the document of the sentence it refers to.
            while k < len(sents) and re.match(r"(She|He|It|They|Her|His|Its|Their) ", sents[k]):
                k += 1
            docs.append(" ".join(sents[:k]))
            sents = sents[k:]
    else:
        docs = sents
    c = " ".join(docs)
    if lex.chance(0.1):
        c = "\n".join(docs)
    b = "\n".join(lex_bullet + d for lex_bullet in [lex.pick(["- ", "- ", "- ", "* ", "• "])] for d in docs)
    style = lex.pick(["[{}] ", "{}. ", "Document {}: ", "Passage {}: ", "({}) "])
    n = "\n".join(style.format(i + 1) + d for i, d in enumerate(docs))
    fill = lambda t: t.replace("{c}", c).replace("{b}", b).replace("{n}", n).replace("{q}", question)
    messages = [("system", fill(part)) for part in system.split("\x00") if part]
    return messages + [("user", fill(user))]


def absent_question(lex, facts):
    """A question whose answer is not in the passage: another subject, another relation, or another matter."""
    if lex.chance(0.12):
        return expand(lex, lex.pick(topics.UNKNOWN_Q))
    for _ in range(50):
        base = lex.pick(facts)
        kind, s = base["kind"], base["s"]
        if lex.chance(0.15):
            kind = lex.pick(list(RELATIONS))
        if kind and (kind != base["kind"] or lex.chance(0.4)):
            s = lex.value(kind)
        s = s if kind else ""
        f = make_fact(lex, kind, s, lex.rng.randrange(len(RELATIONS[kind])), RELATIONS[kind])
        if any(g["s"] == s and g["x"] == f["x"] and (g["rel"] is f["rel"] or set(g["rel"][2]) & set(f["rel"][2])) for g in facts):
            continue
        if "{x" not in f["rel"][1][0] or f["rel"][0] != "anyvalue" or lex.chance(0.5):
            return sentence(lex.pick(f["rel"][2]), f)
    return None


def refer_back(fact, question):
    """The question with a pronoun for its subject, for use right after a question about the same one."""
    she, her = (w.lower() for w in pronoun(fact))
    s = fact["s"]
    if she in ("they", "it") and " and " in question:
        return question
    q = re.sub(re.escape(s) + "'s", her, question, flags=re.I)
    if she == "it" or not re.search(r"(by|for|of|to|call|with|reach) " + re.escape(s), q):
        q = re.sub(re.escape(s), she, q, flags=re.I) if she != "they" else question
    return q[0].upper() + q[1:]


def rag(lex, n_facts, n_questions, absent=0.2):
    """A conversation over one passage, as list of (role, text). `absent` is the share of questions without answer."""
    facts = passage_facts(lex, n_facts)
    short = lex.chance(0.12)
    wrapper = lex.pick(WRAPPERS)
    turns, asked, last = [], set(), None
    for _ in range(n_questions):
        if wrapper[1] == "{q}" and wrapper[0] and lex.chance(0.06):
            t = lex.pick([t for t in topics.TOPICS if t[0] in ("hello", "thanks", "who-are-you", "what-is-selvedge", "bye", "how-are-you", "ok")])
            turns.append((expand(lex, lex.pick(t[1])), t[3] if short else t[2]))
            last = None  # a pronoun refers to the turn just before
            continue
        if lex.chance(absent):
            q = absent_question(lex, facts)
            if q:
                turns.append((q, ABSENT))
            last = None
            continue
        near = [f for f in facts if last and f["s"] == last["s"] and f is not last and f["s"]]
        f = lex.pick(near) if near and lex.chance(0.5) else lex.pick(facts)
        q, full, brief, _ = ask(lex, f)
        if any(f is g for g in near) and lex.chance(0.5):
            q = refer_back(f, q)
        if q in asked:
            continue
        asked.add(q)
        turns.append((q, (brief[0].upper() + brief[1:] + ("" if brief[-1] == "." else ".")) if short else full))
        last = f
    if not turns:
        return rag(lex, n_facts, n_questions, absent)
    rough = lex.chance(0.15)
    turns = [(q.lower() if rough and lex.chance(0.7) else q, a) for q, a in turns]
    turns = [(lex.pick(["Please tell me: ", "Quick question: ", "Tell me: ", "Hi! ", "Hello, ", "I would like to know: ", "Next question: "]) + q
              if lex.chance(0.06) else q, a) for q, a in turns]
    turns = [(q.rstrip("?") if lex.chance(0.1) else q, a) for q, a in turns]
    messages = layout(lex, facts, wrapper, turns[0][0])
    if short:
        order = lex.pick(SHORT_ORDERS)
        if messages[0][0] == "system":
            messages[0] = ("system", messages[0][1] + ("\n\n" if lex.chance(0.5) else " ") + order)
        else:
            messages.insert(0, ("system", order))
    messages.append(("assistant", turns[0][1]))
    for q, a in turns[1:]:
        messages += [("user", q), ("assistant", a)]
    if lex.chance(0.04):
        t = lex.pick([t for t in topics.TOPICS if t[0] in ("thanks", "bye", "praise", "ok")])
        messages += [("user", expand(lex, lex.pick(t[1]))), ("assistant", t[3] if short else t[2])]
    return messages


# ---------------------------------------------------------------- conversations

def expand(lex, pattern):
    """Picks one way through a pattern like '{What is|What's} Selvedge{?|}'. {N} and {W} become a name and a word."""
    while True:
        m = re.search(r"\{([^{}]*)\}", pattern)
        if not m:
            return pattern
        body = m.group(1)
        new = {"N": lex.name, "W": lambda: lex.word("common"), "C": lambda: lex.word("colour")}.get(body, lambda: lex.pick(body.split("|")))()
        pattern = pattern[:m.start()] + new + pattern[m.end():]


def bare(q):
    return re.sub(r"[^a-z0-9 ]", "", q.lower()).strip()


def typo(lex, q):
    """One slip of the keyboard."""
    if len(q) < 6:
        return q
    i = lex.rng.randint(1, len(q) - 3)
    return lex.pick([q[:i] + q[i + 1:], q[:i] + q[i + 1] + q[i] + q[i + 2:], q[:i] + q[i] + q[i:], q[:i] + lex.pick("abcdefghijklmnoprstuvwy") + q[i + 1:]])


def surface(lex, q):
    """The same question as people type it: with 'please', in lower case, without a question mark, with slips."""
    r = lex.rng.random()
    if r < 0.06 and len(q) > 12:
        q = lex.pick(["Hi, ", "Hello, ", "Please, ", "Hey, ", "So, ", "Ok, ", "Well, ", "Tell me, ", "And ", "Excuse me, ", "One question: ", "Hi! ", "Hello! ", "Thanks! ", "But "]) + (q[0].lower() + q[1:] if q[:2] != "I " else q)
    elif r < 0.10 and len(q) > 12:
        q = q.rstrip("?.!") + lex.pick([", please?", " please", ", please", " exactly?", " again?", " then?", " by the way?", "??", "?!", " in Selvedge?", " now?"])
    if lex.chance(0.25):
        q = q.lower()
    if lex.chance(0.25):
        q = q.rstrip("?.!")
    if lex.chance(0.14):
        q = typo(lex, q)
    if lex.chance(0.04):
        q = typo(lex, q)
    return q


HEAVY = {"hello": 4, "what-is-selvedge": 5, "deploy": 3, "what-can-you-do": 3, "who-are-you": 3, "openai": 2, "env-ai-run": 2, "start": 2,
         "import-model": 2, "thanks": 2, "bye": 2, "emptiness": 0.5, "token": 2, "how-are-you": 1.5, "maths": 1.5}
BY_NAME = {t[0]: t for t in topics.TOPICS}
_weighted = [t for t in topics.TOPICS for _ in range(int(2 * HEAVY.get(t[0], 1)))]


def question(lex):
    """(text, answer, short answer, topic name) of one question outside any passage, from the share of this lexicon."""
    while True:
        if lex.chance(0.14):
            q, t = expand(lex, lex.pick(topics.UNKNOWN_Q)), ("unknown", None, topics.UNKNOWN, topics.UNKNOWN_SHORT)
        else:
            t = lex.pick(_weighted)
            q = expand(lex, lex.pick(t[1]))
        if (crc(bare(q)) % 12 == 0) == lex.evaluate or (not lex.evaluate and len(bare(q)) < 8):
            return q, t[2], t[3], t[0]


def persona(lex):
    """A system prompt that gives a name, and that name."""
    name = lex.name() if lex.chance(0.6) else lex.pick(FIRST)
    trait = lex.pick(["a helpful assistant", "a friendly assistant", "an assistant", "the assistant of " + lex.value("company"), "a robot", "a polite helper",
                      "a wise owl", "a " + lex.word("job"), "the chatbot of " + lex.value("company"), "a support bot", "a tiny robot"])
    rules = "".join(" " + expand(lex, lex.pick(SYSTEM_RULE)) for _ in range(lex.rng.randint(1, 3) if lex.chance(0.4) else 0))
    text = lex.pick([f"You are {name}, {trait}.", f"You are {name}.", f"Your name is {name}.", f"You are {trait} named {name}.", f"You are {trait}. Your name is {name}.",
                     f"You are called {name}."]).replace("a an ", "an ")
    return text + rules, name


def plain_system(lex):
    """A system prompt without consequences: a usual one, or one composed of sentences."""
    if lex.chance(0.3):
        return lex.pick(PLAIN_SYSTEM)
    parts = [expand(lex, lex.pick(SYSTEM_RULE)) for _ in range(lex.rng.randint(0, 3))]
    if not parts or lex.chance(0.75):
        parts.insert(0, expand(lex, SYSTEM_OPENING[0] if lex.chance(0.7) else lex.pick(SYSTEM_OPENING)))
    return article(lex.pick([" ", " ", " ", "\n"]).join(parts))


def memory_turns(lex):
    """Turns that tell something about the user and ask for it later, or ask for an echo."""
    r = lex.rng.random()
    name = lex.name() if lex.chance(0.6) else lex.pick(FIRST)
    if r < 0.4:
        tell = lex.pick([f"My name is {name}.", f"I am {name}.", f"I'm {name}", f"Hi, I am {name}.", f"Hello, my name is {name}", f"Call me {name}.", f"my name is {name}", f"Hello, I'm {name}!"])
        later = lex.pick(["What is my name?", "What's my name?", "Do you know my name?", "Who am I?", "Do you remember my name?", "what is my name", "How am I called?"])
        return [(tell, f"Nice to meet you, {name}! What would you like to know?")], (later, f"Your name is {name}.")
    if r < 0.75:
        what, v = lex.pick([("favourite colour", lex.word("colour")), ("favourite food", lex.word("food")), ("hobby", lex.word("hobby")), ("job", lex.word("job")),
                            (lex.word("animal") + "'s name", lex.name()), ("home town", lex.place()), ("lucky number", lex.number()), ("favourite animal", lex.word("animal")),
                            ("favourite " + lex.word("attr"), lex.value("anyvalue")), (lex.word("attr"), lex.value("anyvalue"))])
        tell = lex.pick([f"My {what} is {v}.", f"my {what} is {v}", f"Remember: my {what} is {v}.", f"Please remember that my {what} is {v}."])
        later = lex.pick([f"What is my {what}?", f"What's my {what}?", f"Do you remember my {what}?", f"what is my {what}", f"Tell me my {what}."])
        return [(tell, f"Noted: your {what} is {v}.")], (later, f"Your {what} is {v}.")
    words = " ".join(lex.invented() if lex.chance(0.4) else lex.word(lex.pick(["common", "colour", "food", "animal"])) for _ in range(lex.rng.randint(1, 4)))
    words = words.capitalize() if lex.chance(0.3) else words
    return [], (lex.pick([f"Repeat after me: {words}", f"Say {words}", f"Repeat: {words}", f"Say: {words}", f"Please repeat {words}", f"Say \"{words}\"", f"Echo {words}", f"Write {words}"]), words)


def chat(lex, n_turns):
    """A conversation of up to `n_turns` questions: facts, small talk, follow-ups, memory, personas, short answers."""
    messages, short, name = [], False, None
    r = lex.rng.random()
    if r < 0.28:
        messages.append(("system", plain_system(lex)))
    elif r < 0.35:
        messages.append(("system", lex.pick(SHORT_ORDERS)))
        short = True
    elif r < 0.47:
        text, name = persona(lex)
        messages.append(("system", text))
    last, pending = None, []
    for i in range(n_turns):
        if pending and lex.chance(0.5):
            q, a = pending.pop()
            messages += [("user", q), ("assistant", a)]
            last = None
            continue
        if lex.chance(0.12):
            told, later = memory_turns(lex)
            for q, a in told:
                messages += [("user", q), ("assistant", a)]
            if told:
                pending.append(later)
            else:
                messages += [("user", later[0]), ("assistant", later[1])]
            last = None
            continue
        if last and lex.chance(0.12):
            messages += [("user", surface(lex, expand(lex, topics.MORE_Q[0]))), ("assistant", topics.MORE.get(last, topics.NO_MORE))]
            last = "no-more"
            continue
        if name and i == 0 and lex.chance(0.75):
            t = BY_NAME[lex.pick(["who-are-you", "who-are-you", "hello"])]
            q, full, brief, topic = expand(lex, lex.pick(t[1])), t[2], t[3], t[0]
        else:
            q, full, brief, topic = question(lex)
        if name and topic == "who-are-you":
            full = f"I am {name}. How can I help you?"
        elif name and topic == "hello":
            full = f"Hello! I am {name}. How can I help you?"
        answer = brief if short and not (name and topic in ("who-are-you", "hello")) else full
        messages += [("user", surface(lex, q)), ("assistant", answer)]
        last = topic
    for q, a in pending:
        messages += [("user", q), ("assistant", a)]
    return messages


def raw_text(lex):
    """Plain prose for prompts without a template."""
    r = lex.rng.random()
    if r < 0.5:
        return " ".join(passage_sentences(lex, passage_facts(lex, lex.rng.randint(2, 6))))
    if r < 0.75:
        return " ".join(t[2] for t in lex.rng.sample(topics.TOPICS, 3) if "`" not in t[2])
    place, hero, thing = lex.place(), lex.pick(FIRST), lex.word("object")
    return (f"Once upon a time there was a {lex.word('job')} named {hero} who lived in {place}. One day {hero} found a {lex.word('adj')} {thing}. "
            f"It belonged to {lex.person()}, so {hero} carried the {thing} home. {article('They shared a ' + lex.word('dish'))}, and from that day on they were friends.").replace(" a o", " an o")


def example(lex, progress):
    """One training conversation. `progress` in 0..1 is how far training is: first much echoing and short passages
    that always hold the answer, because copying has to be there before anything can be looked up."""
    r = lex.rng.random()
    if r < 0.04:
        return [("raw", raw_text(lex))]
    if progress < 0.15 and r < 0.20:
        turns = [turn for _ in range(3) for told, later in [memory_turns(lex)] for turn in told + [later]]
        return [m for q, a in turns for m in (("user", q), ("assistant", a))]
    if r < 0.42:
        return chat(lex, lex.rng.randint(1, 6))
    absent = min(0.2, 0.05 + progress)
    if r > 0.98 and progress > 0.3:
        return rag(lex, lex.rng.randint(18, 30), 6, absent)
    longest = 2 + int(min(1.0, progress * 2.5) * 12)
    n = 1 + int(longest * lex.rng.random() ** 1.3)
    return rag(lex, n, lex.rng.randint(1, 3) + n // 3, absent)


# ---------------------------------------------------------------- evaluation items

def heldout(seed=7):
    """The items of heldout.jsonl: {'kind', 'messages', 'answer', 'value'}; the last user turn is to be answered."""
    lex = Lexicon(random.Random(seed), evaluate=True)

    def passage_item(kind, n_facts, wrappers=WRAPPERS, relations=RELATIONS, absent=False, short=False):
        while True:
            if relations is NEW_RELATIONS:
                facts = passage_facts(lex, 2, NEW_RELATIONS)
                target = facts[0]
                facts += passage_facts(lex, max(1, n_facts - 2))
                lex.rng.shuffle(facts)
            else:
                facts = passage_facts(lex, n_facts)
                target = lex.pick(facts)
            if absent:
                q, full, value = absent_question(lex, facts), ABSENT, ABSENT
                if q is None:
                    continue
            else:
                q, full, value, is_held = ask(lex, target)
                if relations is not NEW_RELATIONS and not is_held:
                    continue
            messages = layout(lex, facts, lex.pick(wrappers), q)
            if short:
                full = value[0].upper() + value[1:] + ("" if value[-1] == "." else ".")
                messages.insert(0, ("system", lex.pick(SHORT_ORDERS)))
            return {"kind": kind, "messages": [{"role": r, "content": c} for r, c in messages], "answer": full, "value": value}

    items = [passage_item("passage, 1 to 3 sentences", lex.rng.randint(1, 3)) for _ in range(50)]
    items += [passage_item("passage, 4 to 12 sentences", lex.rng.randint(4, 12)) for _ in range(58)]
    items += [passage_item("passage, new prompt wording", lex.rng.randint(2, 8), wrappers=HELD_WRAPPERS) for _ in range(40)]
    items += [passage_item("passage, new kind of fact", lex.rng.randint(3, 6), relations=NEW_RELATIONS) for _ in range(40)]
    items += [passage_item("passage, fact absent", lex.rng.randint(1, 10), absent=True) for _ in range(50)]
    items += [passage_item("passage, short answer", lex.rng.randint(2, 8), short=True) for _ in range(30)]

    def item(kind, messages, answer):
        return {"kind": kind, "messages": [{"role": r, "content": c} for r, c in messages], "answer": answer, "value": answer}

    seen = set()
    while len(seen) < 110:
        q, answer, _, topic = question(lex)
        if bare(q) not in seen and len(bare(q)) >= 8:
            seen.add(bare(q))
            items.append(item("unknown topic" if topic == "unknown" else "Selvedge, held-out wording", [("user", surface(lex, q))], answer))
    for topic, q in HAND:
        items.append(item("Selvedge, written by hand", [("user", q)], topics.UNKNOWN if topic == "unknown" else BY_NAME[topic][2]))
    for i, (topic, q) in enumerate(HAND[::2]):
        system = HAND_SYSTEM[i % len(HAND_SYSTEM)]
        items.append(item("Selvedge, by hand, new system prompt", [("system", system), ("user", q)], topics.UNKNOWN if topic == "unknown" else BY_NAME[topic][2]))
    for _ in range(20):
        text, name = persona(lex)
        items.append(item("persona", [("system", text), ("user", surface(lex, expand(lex, lex.pick(BY_NAME["who-are-you"][1]))))], f"I am {name}. How can I help you?"))
    n = 0
    while n < 20:
        told, later = memory_turns(lex)
        if told:
            messages = [(r, t) for q, a in told for r, t in (("user", q), ("assistant", a))]
            q, answer, _, _ = question(lex)
            items.append(item("memory of the conversation", messages + [("user", q), ("assistant", answer), ("user", later[0])], later[1]))
            n += 1
    return items


# System prompts and questions written without looking at the patterns.
HAND_SYSTEM = ["You are a friendly assistant on Selvedge. Answer in one to three short sentences.", "You are a helpful assistant",
               "You are a seasoned support engineer. Explain things simply and stay factual.",
               "You help visitors of example.com.\n\nRules:\n- no jokes about politics\n- keep to the facts",
               "Act like a museum guide who enjoys computers.", "You are the voice of a smart speaker; speak naturally and avoid lists."]
HAND = [
    ("hello", "Hello!"), ("hello", "hi"), ("what-is-selvedge", "What is Selvedge?"), ("what-is-selvedge", "could you tell me what selvedge is all about"),
    ("deploy", "How do I deploy a Worker?"), ("deploy", "whats the command for deploying my worker"), ("what-can-you-do", "What can you do?"),
    ("what-can-you-do", "what are some things you can help with"), ("openai", "Can I use the OpenAI SDK?"), ("openai", "does it work with the openai python client"),
    ("env-ai-run", "how do i run a model inside a worker"), ("token", "where's my token?"), ("token", "which file has the api token"),
    ("account", "where can i see the account id"), ("import-model", "how to add my own gguf model"), ("import-model", "I want to use a bigger model"),
    ("vectorize", "is there some vector db"), ("kv", "what is the kv thing"), ("d1", "how do I use the SQL database"), ("r2", "where do uploaded files go"),
    ("queues", "does it have message queues"), ("cron", "can a worker run every night"), ("streaming", "can the answer be streamed"),
    ("offline", "will this work on a train without wifi"), ("offline", "does it need internet"), ("privacy", "are my chats sent to somebody"),
    ("limits", "what limits are there"), ("start", "how do I get it running"), ("licence", "what license is the model under"), ("language", "what is it programmed in"),
    ("workerd", "what is workerd"), ("haproxy", "why is there haproxy"), ("who-are-you", "who are you?"), ("bye", "bye, see you tomorrow"), ("thanks", "thank you so much!"),
    ("unknown", "What is the capital of France?"), ("unknown", "who is the king of England"), ("unknown", "how do I cook rice"), ("unknown", "tell me about Napoleon"),
    ("unknown", "What is the tallest mountain?"), ("joke", "tell me a joke please"), ("maths", "what is 2+2"), ("live-data", "what's the weather like"),
    ("gpu", "do I need a graphics card"), ("dashboard", "is there a web interface"), ("metrics", "where are the prometheus metrics"), ("backup", "how do I make a backup"),
    ("cost", "is it free"), ("are-you-human", "are you a robot"), ("are-you-chatgpt", "are you chatgpt"), ("how-big", "how many parameters do you have"),
    ("name-meaning", "why is it called selvedge"), ("s3", "what's the s3 endpoint"), ("worker-url", "at which url is my worker"), ("security", "is it secure"),
    ("multi-node", "can I run it on several machines"), ("cloudflare", "do i have to change my cloudflare code"), ("requirements", "which operating systems are supported"),
    ("limits-of-model", "can I trust your answers"), ("wrangler-env", "which environment variables does wrangler need"),
]


def main():
    if sys.argv[1] == "heldout":
        for item in heldout():
            print(json.dumps(item, ensure_ascii=False))
    else:
        lex = Lexicon(random.Random(1))
        for i in range(int(sys.argv[2])):
            print("\n".join(f"{r}: {t}" for r, t in example(lex, i / int(sys.argv[2]))), end="\n\n")


if __name__ == "__main__":
    main()
