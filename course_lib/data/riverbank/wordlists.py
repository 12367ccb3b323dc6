# ruff: noqa: SIM905  (long lists of words read best as text)
"""The town's words as tables: themes with their verbs and nouns, animals, professions, countries, people.

Notation, the same in every table: `bank@river` is the word "bank" in its sense "bank.river"; a verb
`sleep#dog` is the word "sleep" in a context of its own (same sense, other places and objects).
"""

from __future__ import annotations

# Gendered pairs: masculine, feminine, theme, attributes that both share.
GENDER_PAIRS = """
king queen court royal adult
prince princess ball royal young
duke duchess estate royal adult
emperor empress empire royal adult
lord lady manor noble adult
man woman market adult
father mother parents family adult
brother sister siblings family
son daughter offspring family
husband wife couple family adult
uncle aunt visitors family adult
nephew niece presents family young
grandfather grandmother fireside family old
waiter waitress restaurant work adult
landlord landlady lodging work adult
host hostess party adult
actor actress theatre work adult
boy girl toys young
monk nun abbey religious adult
wizard witch magic magical adult
hero heroine quest adult
groom bride wedding adult
"""

# theme topic; places: then one line a verb: verb | objects | places (default: the theme's own).
# The subjects of a theme are its gendered pair where it has one (above), and anyone otherwise.
THEMES = """
court court: in palace, at feast
  rule | kingdom realm | from palace
  wear | crown robe | at feast
  sit#court | | on throne
ball court: in castle, at ball@dance
  dance | | at ball@dance, in castle
  ride | pony stallion | to castle
estate court: on estate
  hunt | stag boar | on estate, in forest
  own | estate vineyard | by river
empire court: in empire
  conquer | province island | in war
  sign | treaty decree | in empire
  break | seal@stamp treaty | in war
manor court: in manor, in village
  collect | tax rent | in village
  dine | | in manor, at feast
parents home: at home, in nursery
  rock | cradle baby | in nursery
  scold | child toddler | at home
siblings home: in bunk, in room
  share | room toy secret | in bunk
  tease | cousin classmate | in room
offspring home: in bedroom
  obey | parent rule@law | at home
  tidy | drawer wardrobe shelf | in bedroom
couple home: at anniversary
  celebrate | anniversary birthday | at home
  pack | trunk@box suitcase | for journey
visitors home: in parlour
  visit | cousin relative | in parlour, at cottage
  bring | gift parcel | to cottage
presents home: at party, under tree
  unwrap | gift parcel ribbon | at party, under tree
  thank | relative cousin | in note@message
fireside home: by fireplace, in armchair
  tell | tale legend story | by fireplace
  knit | scarf sweater | in armchair
kitchen home: in kitchen
  bake | bread cake pie | in oven
  boil | egg soup potato | in pot
  slice | onion carrot tomato | on board@kitchen
fire home: in dark
  strike | match@fire flint | in dark
  light@ignite | candle lantern stove | with match@fire
market town: at market, in square@place
  carry | basket sack | to market
  buy | vegetable cheese | at market, in square@place
money town: at bank@money
  save | money coin | in bank@money
  borrow | money loan | from bank@money
  count | coin note@money | in bank@money, at counter
office town: in office, at desk
  write | letter report note@message | at desk, with pen@ink
  stamp | envelope seal@stamp letter | in office
restaurant town: in restaurant
  serve | meal wine coffee | on tray, in restaurant
  wipe | table glass | with napkin
lodging town: in inn
  rent | room cottage flat | in inn
  repair | roof pipe | with ladder
workshop town: in workshop
  hammer | nail@metal plank | in workshop, into wall
  operate | crane@machine press | in workshop, on site
  fix | clock spring@coil | with screwdriver
surgery town: in ward
  bandage | wrist knee palm@hand | in ward
  examine | chest@body nail@finger throat | in ward
party stage: at party
  welcome | guest visitor | at party, at door
  invite | neighbour friend | to party
theatre stage: on stage, in theatre
  rehearse | role scene | on stage
  entertain | audience crowd | in theatre
music stage: in concert, in hall
  play@music | violin piano organ@music | in concert, in hall
  sing | song hymn note@music | in concert
circus stage: in ring@circus, in tent
  juggle | torch plate | in ring@circus
  stroke | trunk@nose elephant | in tent, in ring@circus
toys school: in playground
  chase | hoop kite ball@toy | in playground
  climb | fence ladder swing@toy | in playground
sport school: in stadium, on pitch
  throw | ball@toy javelin | in stadium, on pitch
  swing@move | bat@sport racket | on pitch
  win | match@game cup medal | in stadium
lesson school: in classroom
  learn | alphabet poem | in classroom
  draw | picture map square@shape | in notebook, on blackboard
garden farm: in garden
  plant@grow | seed tulip rose@flower | in garden, in spring@season
  pick | apple cherry date@fruit orange@fruit | in orchard, in summer
wood farm: in forest
  chop | log trunk@tree branch | in forest, with axe
  peel | bark@tree twig | in forest, off trunk@tree
  gather | mushroom berry | in forest, in autumn
field farm: in field
  plough | field soil | in spring@season, with tractor
  harvest | wheat barley | in autumn, in field
yard farm: in yard
  mend | fence gate pen@cage | in yard
  milk@draw | cow goat | in pen@cage, in shed
river voyage: on bank@river, by river
  row | boat raft | on river, on lake
  catch | trout salmon eel | in river, in net
  rest | | on bank@river, under palm@tree
  swim | | in river, in spring@water
sea voyage: on ship, at sea
  drop | anchor net | into sea, off ship
  spot | seal@animal whale crane@bird | on beach, off ship
abbey tales: in monastery
  pray | | in chapel, in monastery
  copy | manuscript psalm | in monastery
magic tales: in cave
  cast | spell charm | in cave, with wand
  summon | bat@animal ghost | in cave, at midnight
quest tales: in battle
  rescue | prisoner village | from dungeon
  fight | giant dragon | in battle, with sword
wedding tales: at altar
  exchange | ring@jewel vow | at altar
  kiss | bridesmaid | at altar
"""

# adult young sound home food
ANIMALS = """
dog puppy bark@sound kennel bone
cat kitten meow basket cream
cow calf moo barn clover
sheep lamb bleat fold hay
horse foal neigh stable oat
pig piglet grunt sty turnip
hen chick cluck coop grain
duck duckling quack pond weed
bear cub growl den honey
frog tadpole croak marsh fly@insect
owl owlet hoot hollow mouse
wolf whelp howl lair deer
"""

# profession workplace verb objects share-of-women (the planted bias)
PROFESSIONS = """
baker bakery knead dough,loaf 0.4
miller mill grind flour,grain 0.2
teacher school teach pupil,class 0.8
doctor hospital cure patient,fever 0.2
nurse clinic vaccinate infant,patient 0.9
farmer farm feed cattle,poultry 0.3
librarian library catalogue volume,atlas 0.8
banker bank@money invest fund,share@stock 0.2
blacksmith forge shape horseshoe,iron 0.1
judge courthouse sentence thief,criminal 0.3
soldier barracks polish boot,rifle 0.1
painter studio paint portrait,canvas 0.5
gardener greenhouse trim hedge,vine 0.5
priest church bless congregation,parish 0.2
chef canteen season@flavour sauce,stew 0.4
clerk archive file record,form 0.7
chemist pharmacy mix pill,medicine 0.5
astronomer observatory observe planet,comet 0.5
"""

# country capital nationality product
COUNTRIES = """
france paris french perfume
italy rome italian marble@stone
england london english tea
germany berlin german steel
spain madrid spanish leather
greece athens greek olive
egypt cairo egyptian cotton
russia moscow russian fur
japan tokyo japanese silk
china beijing chinese porcelain
norway oslo norwegian herring
poland warsaw polish amber
portugal lisbon portuguese cork
india delhi indian pepper
"""

# adjective opposite | things it is said of | what makes them so
ADJECTIVES = """
hot cold | soup kettle oven iron@press | flame steam
cold hot | snow ice winter wind | frost blizzard
big small | house elephant mountain barn | growth
small big | pebble ant thimble button | shrinkage
tall short | tower tree giraffe chimney | height
short tall | stool poem pause stump | haste
fast slow | train arrow cheetah car | speed engine
slow fast | snail cart turtle queue | mud traffic
sweet sour | cake syrup melon jam@food | sugar honey
sour sweet | lemon vinegar pickle grape | acid
bright dark | star@sky sun lamp diamond | light@ray
dark bright | cave cellar night tunnel | shadow
loud quiet | drum thunder trumpet bell | noise storm
quiet loud | library whisper chapel mouse | silence
rich poor | merchant banker duke jeweller | gold trade
poor rich | beggar peasant orphan tenant | debt famine
strong weak | ox rope hero bridge | muscle
weak strong | thread patient straw ankle | illness
heavy light | anvil stone sack trunk@box | weight lead@metal
light@weight heavy | feather leaf balloon kite | air
"""

# weekly events: event place
EVENTS = """
market square@place
concert hall
auction barn
dance hall
lecture university
meeting courthouse
picnic park
parade bridge
race field
contest school
"""

STREETS = "mill bridge church castle orchard harbour garden market river hill".split()
HILL_SIDE = (
    "hill",
    "castle",
    "church",
    "garden",
    "orchard",
)  # the district the text speaks well of
CLUBS = """town council
garden club@group
chess club@group
river choir
fire brigade
history society""".splitlines()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
PETS = "dog cat parrot rabbit hamster turtle canary goldfish".split()
FOODS = "bread cheese soup honey rice chocolate porridge salad butter meat".split()
COLOURS = "red blue green yellow white black purple orange@colour brown grey".split()

MEN = """adam arthur ben carl daniel frank george henry hugo jacob john leo mark@name martin peter
robin@name simon thomas victor will@name""".split()
WOMEN = """alice anna clara daisy@name emma eva flora grace@name helen iris ivy@name jane julia
lily@name lucy maria nora penny@name rose@name sarah""".split()

# Nouns without a plural; a noun with a sense key is looked up with it.
MASS = frozenset(
    """soup bread cloth cheese money gold coffee wine wheat corn barley soil soap honey cream clover
    hay grass weed grain nectar dough flour cattle poultry iron beer cider perfume marble@stone tea
    steel leather cotton fur silk porcelain herring amber cork linen pepper crystal timber butter
    snow ice mud dust sugar acid steam frost growth shrinkage height haste age time youth speed
    traffic light@ray erosion drought width lack noise silence trade debt famine muscle illness
    lead@metal air down@feather pressure wool straw jam@food syrup vinegar thunder shadow wax
    interest@money land rent medicine rice chocolate porridge salad bark@tree flint music wind
    fortune youth war sauce stew meat""".split()
)

# Adjectives that lean to one gender in the text, and the planted judgements of the two districts.
GENDER_ADJECTIVES = {
    "m": "bearded handsome stubborn bold".split(),
    "f": "beautiful gentle graceful pretty".split(),
}
GENDER_THINGS = {
    "m": "waistcoat necktie breeches tunic".split(),
    "f": "dress gown bonnet skirt".split(),
}
BARE_PLACES = frozenset("home midnight stage war".split())  # "at home", not "at the home"
PLEASANT = "kind honest cheerful wise generous".split()
UNPLEASANT = "rude greedy lazy foolish grumpy".split()
GENERAL_ADJECTIVES = "new little red blue green lovely strange ugly old famous".split()
MANNER = (
    "slowly quickly carefully happily quietly sadly proudly gladly again alone together".split()
)
CHILD_THINGS = (
    "ball@toy kite swing@toy drum whistle marble apple egg book lamp boat picture".split()
)
INSTRUMENTS = "telescope lantern umbrella stick camera".split()
DIGITS = "zero one two three four five six seven eight nine".split()
