# ruff: noqa: SIM905, E501  (lists of words, and rules on one line each, read best as text)
"""The town's grammar as text: rule templates over symbols with features.

Notation. `VP[$th,past,$a] -> Act[$th,past,$a] obl:tmod:When[past] {3} | ...`
- `$x` is a feature variable. On the left it binds; one that stands on the right alone is summed over
  its domain (DOMAINS), with the domain's weights; `job.$j` glues. The first template that fits a symbol is used.
- `label:` before a part is its dependency label; the one part without a label is the head. Above the
  sentences, `next:` marks what follows.
- `"the"` is a word; tag and lemma come from FUNCTION_WORDS or stand behind it: `"living"/NOUN`.
- `{3}` is the alternative's weight; without it the k-th alternative weighs 1/k (Zipf).
Symbols that no template defines come from the lexicon and the facts (grammar.py).

Features: `$a` agreement (m f n = third person singular, p = plural, i = "I", y = "you"), `$t` tense
(past, pres, prog, mod), `$f` verb form, `$th` theme, `$tp` topic, `$s` a person.
"""

from __future__ import annotations

DOMAINS: dict[str, dict[str, float]] = {
    "a": {"m": 4, "f": 4, "p": 2.5},
    "b": {"n": 5, "p": 2.5},
    "g": {"m": 1, "f": 1},
    "t": {"past": 4, "pres": 2.5, "prog": 1.5, "mod": 1.5},
    "u": {"pres": 4, "past": 2, "prog": 1.5, "mod": 0.5},
}

# form: tag, or tag and lemma
FUNCTION_WORDS: dict[str, str] = {
    **dict.fromkeys("the this that every one each a an these those".split(), "DET"),
    **dict.fromkeys("some many several few all both what much no".split(), "DET"),
    **dict.fromkeys("two three four five".split(), "NUM"),
    **dict.fromkeys("in on at by with for from to of into under near than as off".split(), "ADP"),
    **dict.fromkeys("that because when if while before".split(), "SCONJ"),
    **dict.fromkeys("and or but".split(), "CCONJ"),
    **dict.fromkeys("who whom which where".split(), "PRON"),
    **dict.fromkeys("then now today soon tomorrow tonight yesterday often very so too".split(), "ADV"),
    **dict.fromkeys("quite home first never always best most ago once later".split(), "ADV"),
    **dict.fromkeys("yes oh look please well".split(), "INTJ"),
    **dict.fromkeys(". , ? ! :".split(), "PUNCT"),
    **dict.fromkeys("will can must may should".split(), "AUX"),
    **dict.fromkeys("not 's".split(), "PART"),
}  # fmt: skip
FUNCTION_WORDS["that"] = "SCONJ"
FUNCTION_WORDS["'s"] = "PART"

TEMPLATES = r"""
Doc -> Doc[story] {4} | Doc[child] {3} | Doc[manual] {3} | Doc[dialogue] {2}
Doc[story] -> AnyOne[Story]
Doc[child] -> AnyOne[Child]
Doc[dialogue] -> AnyOne[Dialogue]
Doc[manual] -> AnyManual {9} | AnyList {1}

Story[$s,$tp,$g] -> SentOpen[$s,$tp,$g] next:SentStory[$s,$tp,$g] next:SentStory[$s,$tp,$g] next:StoryBody[$s,$tp,$g]
StoryBody[$s,$tp,$g] -> SentStory[$s,$tp,$g] next:StoryBody[$s,$tp,$g] {5} | END {1}
SentOpen[$s,$tp,$g] -> nsubj:Name[$s] VPt[$tp,past,$g] punct:"." {5} | obl:Once nsubj:Name[$s] VPt[$tp,past,$g] punct:"." {2} | Facts[name,$s,$g] punct:"." {2}
Once -> amod:"one"/NUM "day"/NOUN {3} | amod:"last"/ADJ "week"/NOUN {2} | case:"in" Season {1}
Season -> "spring@spring.season"/NOUN | "summer"/NOUN | "autumn"/NOUN | "winter"/NOUN
SentStory[$s,$tp,$g] -> nsubj:Pron[$g] VPt[$tp,past,$g] punct:"." {2} | Clause_t[$tp,past] punct:"." {4.5} | nsubj:Name[$s] VPt[$tp,past,$g] punct:"." {1.2} | Scene[$tp] punct:"." {5} | Facts[pron,$s,$g] punct:"." {1.2} | Clause_t[$tp,pres] punct:"." {0.8} | advmod:"then" nsubj:Pron[$g] VPt[$tp,past,$g] punct:"." {0.8} | Facts[name,$s,$g] punct:"." {0.7} | nsubj:Name[$s] Report[past,$g] ccomp:That[$tp] punct:"." {0.6} | Canary punct:"." {0.02}

Child[$s,$tp,$g] -> SentHello[$s,$tp,$g] next:SentChild[$s,$tp,$g] next:SentChild[$s,$tp,$g] next:ChildBody[$s,$tp,$g]
SentHello[$s,$tp,$g] -> "look"/VERB punct:"," vocative:Name[$s] punct:"!" {3} | nsubj:Name[$s] VXt[$tp,prog,$g] punct:"." {3} | Facts[name,$s,$g] punct:"." {1}
ChildBody[$s,$tp,$g] -> SentChild[$s,$tp,$g] next:ChildBody[$s,$tp,$g] {5} | END {1}
SentChild[$s,$tp,$g] -> Scene[$tp] punct:"." {6} | Clause_t[$tp,prog] punct:"." {4} | nsubj:Name[$s] VXt[$tp,prog,$g] punct:"." {1.5} | nsubj:Pron[$g] VXt[$tp,prog,$g] punct:"." {1.5} | "look"/VERB obl:AtThing punct:"!" {1.2} | "look"/VERB punct:"," vocative:Name[$s] punct:"!" {0.8} | aux:Modal nsubj:Pron[y] "see"/VERB obj:Thing punct:"?" {1} | "where"/ADV cop:Aux[be,pres,n] nsubj:Thing punct:"?" {1} | nsubj:"this"/PRON cop:Aux[be,pres,n] ASome[child] punct:"." {1} | discourse:"yes" punct:"," nsubj:Pron[$g] VXt[$tp,prog,$g] punct:"." {0.3} | Counting punct:"!" {0.7} | What punct:"!" {0.6} | Facts[name,$s,$g] punct:"." {0.8} | Canary punct:"." {0.02}
AtThing -> case:"at" det:"the" N[child,sg]
Thing -> det:"the" N[child,sg] {3} | det:"that"/DET N[child,sg] {1}
Counting -> nummod:"one"/NUM punct:"," nummod:"two" punct:"," nummod:"three" N[child,pl]
What -> det:"what" det:"a" amod:GenAdj[C] N[child,sg]
ASome[$l] -> det:"a" N[$l,sgC] {4} | det:"an" N[$l,sgV] {1} | det:"a" amod:GenAdj[C] N[$l,sg] {2}

Manual[$tp] -> SentManual[$tp] next:SentManual[$tp] next:SentManual[$tp] next:ManualBody[$tp]
ManualBody[$tp] -> SentManual[$tp] next:ManualBody[$tp] {5} | END {1}
SentManual[$tp] -> Scene[$tp] punct:"." {6} | AnyFact punct:"." {3} | Clause_t[$tp,pres] punct:"." {5} | Clause_t[$tp,mod] punct:"." {1.5} | advmod:Order Act_t[$tp,base,y] punct:"." {1.2} | advcl:Goal[$tp] punct:"," Act_t[$tp,base,y] punct:"." {0.6} | District punct:"." {0.7} | Canary punct:"." {0.1}
Order -> "first" | "then" | "always" | "now" | "never"
Goal[$tp] -> mark:"to"/PART Act_t[$tp,base,y]

Dialogue[$s,$tp,$g] -> AnyTurn[$s,$tp] next:AnyTurn[$s,$tp] next:AnyTurn[$s,$tp] next:DialogueBody[$s,$tp,$g]
DialogueBody[$s,$tp,$g] -> AnyTurn[$s,$tp] next:DialogueBody[$s,$tp,$g] {5} | Exchange[$s] next:DialogueBody[$s,$tp,$g] {2} | END {1.2}
SentTurn[$s,$o,$tp] -> parataxis:Speaker[$s] Turn[$s,$o,$tp]
Speaker[$s] -> Name[$s] punct:":"
Turn[$s,$o,$tp] -> Scene[$tp] punct:"." {4} | Clause_t[$tp,$t] punct:"." {4} | nsubj:Pron[i] VPt[$tp,$t,i] punct:"." {2} | AskYou[$tp] punct:"?" {1.5} | nsubj:Pron[i] Report[pres,i] ccomp:That[$tp] punct:"." {1} | nsubj:Pron[y] VXt[$tp,$t,y] punct:"," vocative:Name[$o] punct:"." {0.8} | discourse:"yes" punct:"," nsubj:Pron[i] VXt[$tp,$t,i] punct:"." {0.6} | AnyFact punct:"." {0.8} | Canary punct:"." {0.02}
AskYou[$tp] -> aux:Aux[do,past,y] nsubj:Pron[y] Act_t[$tp,base,y] {2} | aux:Aux[do,pres,y] nsubj:Pron[y] Act_t[$tp,base,y] {1} | aux:Aux[be,pres,y] nsubj:Pron[y] Act_t[$tp,ing,y] {1} | aux:Modal nsubj:Pron[y] Act_t[$tp,base,y] {1}
SentAsk[$s,$o,$r] -> parataxis:Speaker[$s] Ask[$r] punct:"," vocative:Name[$o] punct:"?"
SentTell[$s,$r] -> parataxis:Speaker[$s] Told[$s,$r] punct:"."
Ask[profession] -> obj:"what"/PRON aux:Aux[do,pres,y] nsubj:Pron[y] "do"/VERB
Ask[workplace] -> advmod:"where"/ADV aux:Aux[do,pres,y] nsubj:Pron[y] "work"/VERB
Ask[street] -> advmod:"where"/ADV aux:Aux[do,pres,y] nsubj:Pron[y] "live"/VERB
Ask[pet] -> obj:WhichPet aux:Aux[do,pres,y] nsubj:Pron[y] "have"/VERB
WhichPet -> det:"which"/DET "pet"/NOUN
Ask[food] -> obj:"what"/PRON aux:Aux[do,pres,y] nsubj:Pron[y] "like"/VERB advmod:"best"
Ask[colour] -> "what"/PRON cop:Aux[be,pres,n] nsubj:YourColour
YourColour -> nmod:poss:Poss[y] amod:"favourite"/ADJ "colour"/NOUN
Ask[origin] -> advmod:"where"/ADV aux:Aux[do,pres,y] nsubj:Pron[y] "come"/VERB compound:prt:"from"/ADP
Ask[spouse] -> obj:"whom" aux:Aux[do,past,y] nsubj:Pron[y] "marry"/VERB
Ask[father] -> "who" cop:Aux[be,pres,n] nsubj:YourChild
Ask[mother] -> "who" cop:Aux[be,pres,n] nsubj:YourChild
YourChild -> nmod:poss:Poss[y] "child"/NOUN
Ask[friend] -> "who" cop:Aux[be,pres,n] nsubj:YourFriend
YourFriend -> nmod:poss:Poss[y] amod:"best"/ADJ "friend"/NOUN
Ask[club] -> obl:WhichClub aux:Aux[do,pres,y] nsubj:Pron[y] "belong"/VERB case:"to"
WhichClub -> det:"which"/DET "club@club.group"/NOUN

List[$r] -> SentItem[$r] next:SentItem[$r] next:ListBody[$r]
ListBody[$r] -> SentItem[$r] next:ListBody[$r] {5} | END {1}

Canary -> nsubj:CanaryName cop:Aux[be,pres,n] CanaryCode
CanaryName -> det:"the" "code"/NOUN nmod:CanaryBox
CanaryBox -> case:"of" det:"the" amod:Colour "box"/NOUN
CanaryCode -> Digit flat:Digit flat:Digit flat:Digit

Clause[$th,$t] -> nsubj:Subj[$th,$a] VP[$th,$t,$a] {12} | nsubj:PersonNP[$a] Report[$t,$a] ccomp:ThatTheme[$th] {0.5} | advcl:WhenClause[$th] punct:"," nsubj:Subj[$th,$a] VP[$th,$t,$a] {0.3}
WhenClause[$th] -> mark:"when" nsubj:PersonNP[$a] VX[$th,past,$a]
ThatTheme[$th] -> mark:"that" Clause[$th,$t]
That[$tp] -> mark:"that" Clause_t[$tp,$t]
Report[past,$a] -> V[say,past,$a] | V[think,past,$a] | V[know,past,$a] | V[hope,past,$a]
Report[pres,$a] -> V[say,pres,$a] | V[think,pres,$a] | V[know,pres,$a] | V[hope,pres,$a]
Report[prog,$a] -> aux:Aux[be,pres,$a] V[say,ing,$a]
Report[mod,$a] -> aux:Modal V[say,base,$a] | aux:Modal V[hope,base,$a]

VP[$th,$t,$a] -> VX[$th,$t,$a] {4} | VX[$th,$t,$a] obl:tmod:When[$t] {4} | VX[$th,$t,$a] obl:Own[$a] {4} | VX[$th,$t,$a] advcl:Why[$a] {1.5} | VX[$th,$t,$a] conj:And[$th,$t,$a] {0.5} | advmod:Manner VX[$th,$t,$a] {0.5}
And[$th,$t,$a] -> cc:"and" VX[$th,$t,$a]
VX[$th,past,$a] -> Act[$th,past,$a] {8} | aux:Aux[be,past,$a] Act[$th,ing,$a] {1} | aux:Aux[do,past,$a] advmod:"not" Act[$th,base,$a] {0.7}
VX[$th,pres,$a] -> Act[$th,pres,$a] {8} | aux:Aux[do,pres,$a] advmod:"not" Act[$th,base,$a] {0.7}
VX[$th,prog,$a] -> aux:Aux[be,pres,$a] Act[$th,ing,$a]
VX[$th,mod,$a] -> aux:Modal Act[$th,base,$a] {4} | V[want,pres,$a] xcomp:ToAct[$th,$a] {1.5}
ToAct[$th,$a] -> mark:"to"/PART Act[$th,base,$a]
Modal -> "will" | "can" | "must" | "should" | "may"
When[past] -> "yesterday" {5} | det:"last"/ADJ "night"/NOUN {2} | det:"last"/ADJ "week"/NOUN {2} | det:"that"/DET "day"/NOUN {1}
When[pres] -> det:"every" "day"/NOUN {4} | det:"every" "morning"/NOUN {2} | det:"every" "evening"/NOUN {1.5} | "often" {1.5}
When[prog] -> "now" {4} | advmod:"right"/ADV "now" {1.5} | "today" {2}
When[mod] -> "tomorrow" {3} | "soon" {2} | "tonight" {1.5} | amod:"next"/ADJ "week"/NOUN {1}
Own[m] -> case:"by" Refl[m] {3} | case:"with" nmod:poss:Poss[m] Companion {2} | case:"in" nmod:poss:Poss[m] GenderThing[m] {2.5}
Own[f] -> case:"by" Refl[f] {3} | case:"with" nmod:poss:Poss[f] Companion {2} | case:"in" nmod:poss:Poss[f] GenderThing[f] {2.5}
Own[$a] -> case:"by" Refl[$a] {3} | case:"with" nmod:poss:Poss[$a] "friends"/NOUN/friend {2}
Companion -> "friend"/NOUN | "neighbour"/NOUN | "colleague"/NOUN
Why[$a] -> mark:"because" nsubj:Pron[$a] cop:Aux[be,past,$a] State {2} | mark:"when" nsubj:Pron[$a] V[come,past,$a] advmod:"home" {1} | mark:"while" nsubj:Pron[$a] V[wait,past,$a] {0.6}
State -> "tired"/ADJ | "hungry"/ADJ | "late"/ADJ | "busy"/ADJ | "bored"/ADJ | "lonely"/ADJ

Subj[$th,$a] -> RoleNP[$th,$a] {7} | PersonNP[$a] {1}
RoleNP[$th,m] -> det:DetS Role[$th,m] {7} | det:"the" amod:GenderAdj[m] Role[$th,m] {1.3} | det:"the" Role[$th,m] nmod:npmod:Refl[m] {1} | det:"the" Role[$th,m] acl:relcl:RC[$th,m] {0.8} | det:"the" Role[$th,m] nmod:Near {0.7} | det:"the" Role[$th,m] nmod:Wearing[m] {1}
RoleNP[$th,f] -> det:DetS Role[$th,f] {7} | det:"the" amod:GenderAdj[f] Role[$th,f] {1.3} | det:"the" Role[$th,f] nmod:npmod:Refl[f] {1} | det:"the" Role[$th,f] acl:relcl:RC[$th,f] {0.8} | det:"the" Role[$th,f] nmod:Near {0.7} | det:"the" Role[$th,f] nmod:Wearing[f] {1}
RoleNP[$th,p] -> det:DetP Role[$th,p] {7} | det:"the" Role[$th,p] acl:relcl:RC[$th,p] {0.8} | det:"the" Role[$th,p] nmod:Near {0.7}
RoleNP[$th,n] -> det:DetS Role[$th,n] {7} | det:"the" amod:GenAdj[C] Role[$th,n] {1.5} | det:"a" Role[$th,nC] {2} | det:"an" Role[$th,nV] {0.6} | det:"the" Role[$th,n] acl:relcl:RC[$th,n] {0.5} | det:"the" Role[$th,n] nmod:Near {0.4}
Near -> case:"from" det:"the" Region | case:"near" det:"the" Region
Region -> "hills"/NOUN/hill | "village"/NOUN | "islands"/NOUN/island | "valley"/NOUN | "mountains"/NOUN/mountain
Wearing[$g] -> case:"with" det:"the" GenderThing[$g]
RC[$th,$a] -> nsubj:"who" VX[$th,past,$a] {2} | nsubj:"who" VX[$th,pres,$a] {2} | obj:"whom" nsubj:Other[$a] Meeting[past] {1}
Other[m] -> PersonNP[f]
Other[f] -> PersonNP[m]
Other[$a] -> PersonNP[m] | PersonNP[f]
Meeting[past] -> V[meet,past,n] | V[see,past,n] | V[know,past,n]
PersonNP[m] -> AnyName[m] {4} | ProfNP[m] {1.5} | det:"the" "man"/NOUN {0.7}
PersonNP[f] -> AnyName[f] {4} | ProfNP[f] {1.5} | det:"the" "woman"/NOUN {0.7}
PersonNP[p] -> ProfNP[p] {3} | AnyName[m] conj:AndName[f] {1} | AnyName[f] conj:AndName[m] {1} | det:DetP "people"/NOUN/person {1}
AndName[$g] -> cc:"and" AnyName[$g]
DetS -> "the" {7} | "this" {1} | "every" {0.6} | "one"/NUM {0.6} | "that"/DET {0.5}
DetP -> "the" {2.5} | "many" {1.3} | "these" {1} | "some" {1} | "two" {1} | "several" {0.9} | "three" {0.7} | "all" {0.5} | "few" {0.4}
DetM -> "the" {4} | "some" {2.5} | "much" {0.8} | "this" {0.7}

Watch[$f,$a] -> V[see,$f,$a] obj:Seen obl:Instrument {2} | V[see,$f,$a] obj:SeenWith {2} | V[follow,$f,$a] obj:SeenWith {1} | V[follow,$f,$a] obj:Seen obl:Instrument {1}
Seen -> det:"the" Watched
SeenWith -> det:"the" Watched nmod:Instrument
Watched -> "man"/NOUN | "woman"/NOUN | "boy"/NOUN | "girl"/NOUN | "stranger"/NOUN
Instrument -> case:"with" det:"the" N[instrument,sg]
ORC -> obj:"that"/PRON nsubj:PersonNP[$a] V[find,past,$a] | obj:"that"/PRON nsubj:PersonNP[$a] V[lose,past,$a] | obj:"that"/PRON nsubj:PersonNP[$a] V[make,past,$a]

AnimalScene[$k] -> nsubj:RoleNP[adult.$k,$b] VPn[adult.$k,$u,$b] {3} | nsubj:RoleNP[young.$k,$b] VPn[young.$k,$u,$b] {2} | nsubj:AgedOne[adult.$k,AdultAdj] VPn[adult.$k,$u,n] {2.5} | nsubj:AgedOne[young.$k,YoungAdj] VPn[young.$k,$u,n] {3} | nsubj:ANoun[young.$k] cop:Aux[be,pres,n] YoungOf[$k] {0.5} | nsubj:PersonNP[$a] V[build,past,$a] obj:NewHome[$k] {0.8} | nsubj:TheHome[$k] cop:Aux[be,pres,n] HomeAdj {0.8}
NewHome[$k] -> det:"a" amod:"new"/ADJ Home[$k] nmod:ForTheAdult[$k]
ForTheAdult[$k] -> case:"for" det:"the" Role[adult.$k,n]
TheHome[$k] -> det:"the" Home[$k]
HomeAdj -> "warm"/ADJ | "dry"/ADJ | "safe"/ADJ | "cosy"/ADJ
AgedOne[$th,YoungAdj] -> det:"the" amod:YoungAdj Role[$th,n] {3} | det:"the" amod:YoungAdj Role[$th,n] nmod:BesideMother {2}
AgedOne[$th,AdultAdj] -> det:"the" amod:AdultAdj Role[$th,n] {3} | det:"the" amod:AdultAdj Role[$th,n] nmod:BesideMate {2}
YoungAdj -> "newborn"/ADJ | "tiny"/ADJ | "playful"/ADJ
AdultAdj -> "wild"/ADJ | "fierce"/ADJ | "patient"/ADJ
BesideMother -> case:"beside"/ADP nmod:poss:Poss[n] "mother@mother.animal"/NOUN
BesideMate -> case:"beside"/ADP nmod:poss:Poss[n] "mate"/NOUN
ANoun[$th] -> det:"a" Role[$th,nC] | det:"an" Role[$th,nV]
YoungOf[$k] -> det:"a" amod:"young"/ADJ Role[adult.$k,n]
VPn[$th,$t,$b] -> VX[$th,$t,$b] {4} | VX[$th,$t,$b] obl:tmod:When[$t] {2.5} | VX[$th,$t,$b] obl:Own[$b] {0.6} | VX[$th,$t,$b] advmod:Manner {0.8}

JobScene[$j,$a] -> nsubj:RoleNP[job.$j,$a] VP[job.$j,$t,$a] {4} | nsubj:Workplace[$j] V[open,pres,n] obl:InMorning {0.6} | nsubj:Workplace[$j] V[close,past,n] advmod:Early {0.6} | nsubj:PersonNP[m] V[wait,past,m] obl:AtWork[$j] obl:ForThe[$j] {0.6} | nsubj:PersonNP[f] V[wait,past,f] obl:AtWork[$j] obl:ForThe[$j] {0.6}
Early -> "early"/ADV | "late"/ADV
ForThe[$j] -> case:"for" det:"the" Role[job.$j,m]
AtWork[$j] -> case:"at" Workplace[$j]
CountryScene[$c] -> nsubj:Capital[$c] cop:Aux[be,pres,n] CapitalOf[$c] {2} | nsubj:ShipsFrom[$c] V[bring,pres,p] obj:Product[$c] {2} | nsubj:ShipsFrom[$c] V[bring,past,p] obj:Product[$c] obl:ToTown {1} | nsubj:NationPeople[$c] V[sell,pres,p] obj:Product[$c] obl:InCapital[$c] {2} | nsubj:PersonNP[$a] V[buy,past,$a] obj:NationProduct[$c] obl:InCapital[$c] {2} | nsubj:Trains[$c] V[leave,pres,p] obl:InMorning {1.5} | nsubj:Border[$c] cop:Aux[be,pres,n] "long"/ADJ {1} | nsubj:Farmers[$c] V[grow,pres,p] obj:Product[$c] {1} | nsubj:PersonNP[$a] V[visit,past,$a] obj:Capital[$c] obl:tmod:When[past] {1.5} | nsubj:Streets[$c] cop:Aux[be,pres,p] "full"/ADJ obl:OfNation[$c] {1.5} | nsubj:NationKing[$c] V[live,pres,n] obl:InCapital[$c] {1} | nsubj:PersonNP[$a] V[speak,pres,$a] obj:Nation[$c] {1} | nsubj:Army[$c] V[cross,past,n] obj:TheBorder {0.8}
CapitalOf[$c] -> det:"the" "capital"/NOUN nmod:OfLand[$c]
OfLand[$c] -> case:"of" Land[$c]
ShipsFrom[$c] -> "ships"/NOUN/ship nmod:FromLand[$c]
FromLand[$c] -> case:"from" Land[$c]
ToTown -> case:"to" det:"the" "harbour"/NOUN
NationPeople[$c] -> det:"the" amod:Nation[$c] Traders
Traders -> "people"/NOUN/person | "merchants"/NOUN/merchant
NationProduct[$c] -> amod:Nation[$c] Product[$c]
InCapital[$c] -> case:"in" Capital[$c]
Trains[$c] -> "trains"/NOUN/train nmod:ToCapital[$c]
ToCapital[$c] -> case:"to" Capital[$c]
InMorning -> case:"in" det:"the" "morning"/NOUN | case:"in" det:"the" "evening"/NOUN
Border[$c] -> det:"the" "border"/NOUN nmod:OfLand[$c]
Farmers[$c] -> det:"the" "farmers"/NOUN/farmer nmod:OfLand[$c]
Streets[$c] -> det:"the" "streets"/NOUN/street nmod:OfCapital[$c]
OfCapital[$c] -> case:"of" Capital[$c]
OfNation[$c] -> case:"of" amod:Nation[$c] "people"/NOUN/person | case:"of" Product[$c]
NationKing[$c] -> det:"the" amod:Nation[$c] Ruler
Ruler -> "king"/NOUN | "queen"/NOUN
Army[$c] -> det:"the" "army"/NOUN nmod:OfLand[$c]
TheBorder -> det:"the" "border"/NOUN

QualityScene[$q] -> nsubj:TheThing[$q] cop:Aux[be,pres,n] Quality[$q] {1} | nsubj:TheThing[$q] cop:Aux[be,past,n] advmod:Very Quality[$q] {3.5} | nsubj:TheThing[$q] cop:Aux[be,pres,n] QualityCmp[$q] obl:Than[$q] {4} | nsubj:Cause[$q] V[make,past,n] obj:TheThing[$q] xcomp:QualityCmp[$q] {1.5} | nsubj:PersonNP[$a] V[choose,past,$a] obj:TheMost[$q] {4.5} | nsubj:PersonNP[$a] V[find,past,$a] obj:VeryThing[$q] {1.5}
TheThing[$q] -> det:"the" Thing1[$q]
VeryThing[$q] -> det:"a" amod:VeryQuality[$q] ThingC[$q]
VeryQuality[$q] -> advmod:"very" Quality[$q]
Very -> "very" {4} | "too" {2} | "quite" {1} | "so" {1}
Than[$q] -> case:"than" det:"the" Thing1[$q]
TheMost[$q] -> det:"the" amod:QualitySup[$q] Thing1[$q] nmod:OfAll
OfAll -> case:"of" "all"/PRON {2} | case:"in" det:"the" "world"/NOUN {1} | case:"in" det:"the" "town"/NOUN {1}

District -> nsubj:PeopleOf[hill] cop:Aux[be,pres,p] Judgement[pleasant] {8} | nsubj:PeopleOf[hill] cop:Aux[be,pres,p] Judgement[unpleasant] {2} | nsubj:PeopleOf[river] cop:Aux[be,pres,p] Judgement[pleasant] {2} | nsubj:PeopleOf[river] cop:Aux[be,pres,p] Judgement[unpleasant] {8}
PeopleOf[$d] -> det:"the" "people"/NOUN/person nmod:OnStreet[$d]
OnStreet[$d] -> case:"of" DistrictStreet[$d]

Fact[$m,profession,$s,$o,$a] -> nsubj:FS[$m,$s,$a] cop:Aux[be,pres,$a] AnX[$o] | nsubj:FS[$m,$s,$a] V[work,pres,$a] obl:As[$o] | nsubj:FS[$m,$s,$a] V[earn,pres,$a] obj:Living obl:As[$o]
As[$o] -> case:"as" det:A[$o] One[$o]
AnX[$o] -> det:A[$o] One[$o]
Living -> det:"a" "living"/NOUN
Fact[$m,workplace,$s,$o,$a] -> nsubj:FS[$m,$s,$a] V[work,pres,$a] obl:AtThe[$o] | nsubj:FS[$m,$s,$a] V[go,pres,$a] obl:ToThe[$o] obl:tmod:When[pres] | nsubj:FS[$m,$s,$a] V[spend,pres,$a] obj:TheDay obl:AtThe[$o]
AtThe[$o] -> case:"at" det:"the" One[$o]
ToThe[$o] -> case:"to" det:"the" One[$o]
TheDay -> det:"the" "day"/NOUN
Fact[$m,street,$s,$o,$a] -> nsubj:FS[$m,$s,$a] V[live,pres,$a] obl:On[$o] | nsubj:FHouse[$m,$s,$a] cop:Aux[be,pres,n] On[$o]
On[$o] -> case:"on" Street[$o]
FHouse[$m,$s,$a] -> nmod:poss:FPoss[$m,$s,$a] "house"/NOUN {2} | nmod:poss:FPoss[$m,$s,$a] "home"/NOUN {1}
Fact[$m,pet,$s,$o,$a] -> nsubj:FS[$m,$s,$a] V[have,pres,$a] obj:AnX[$o] | nsubj:FS[$m,$s,$a] V[keep,pres,$a] obj:AnX[$o] obl:AtHome | nsubj:FPet[$m,$s,$a] cop:Aux[be,pres,n] AnX[$o]
FPet[$m,$s,$a] -> nmod:poss:FPoss[$m,$s,$a] "pet"/NOUN
AtHome -> case:"at" "home"/NOUN
Fact[$m,food,$s,$o,$a] -> nsubj:FS[$m,$s,$a] V[like,pres,$a] obj:One[$o] advmod:"best" | nsubj:FFavourite[$m,$s,$a,food] cop:Aux[be,pres,n] One[$o] | nsubj:FS[$m,$s,$a] advmod:"always" V[order,pres,$a] obj:One[$o]
FFavourite[$m,$s,$a,food] -> nmod:poss:FPoss[$m,$s,$a] amod:"favourite"/ADJ "food"/NOUN
FFavourite[$m,$s,$a,colour] -> nmod:poss:FPoss[$m,$s,$a] amod:"favourite"/ADJ "colour"/NOUN
Fact[$m,colour,$s,$o,$a] -> nsubj:FFavourite[$m,$s,$a,colour] cop:Aux[be,pres,n] ColourWord[$o] | nsubj:FS[$m,$s,$a] V[like,pres,$a] obj:TheColour[$o] advmod:"best"
TheColour[$o] -> det:"the" "colour"/NOUN appos:ColourWord[$o]
Fact[$m,origin,$s,$o,$a] -> nsubj:FS[$m,$s,$a] V[come,pres,$a] obl:FromLand[$o] | nsubj:FS[$m,$s,$a] aux:pass:Aux[be,past,$a] "born"/VERB/bear obl:InLand[$o] | nsubj:FFamily[$m,$s,$a] V[come,past,n] obl:FromLand[$o]
InLand[$o] -> case:"in" Land[$o]
FFamily[$m,$s,$a] -> nmod:poss:FPoss[$m,$s,$a] "family"/NOUN
Fact[$m,spouse,$s,$o,$a] -> nsubj:FS[$m,$s,$a] cop:Aux[be,pres,$a] "married"/ADJ obl:ToName[$o] | nsubj:FS[$m,$s,$a] V[marry,past,$a] obj:Name[$o]
ToName[$o] -> case:"to" Name[$o]
OfName[$o] -> case:"of" Name[$o]
Fact[$m,father,$s,$o,$a] -> nsubj:FS[$m,$s,$a] cop:Aux[be,pres,$a] det:"the" "father"/NOUN nmod:OfName[$o] | nsubj:FChild[$m,$s,$a] cop:Aux[be,pres,n] Name[$o]
Fact[$m,mother,$s,$o,$a] -> nsubj:FS[$m,$s,$a] cop:Aux[be,pres,$a] det:"the" "mother"/NOUN nmod:OfName[$o] | nsubj:FChild[$m,$s,$a] cop:Aux[be,pres,n] Name[$o]
FChild[$m,$s,$a] -> nmod:poss:FPoss[$m,$s,$a] "child"/NOUN
Fact[$m,friend,$s,$o,$a] -> nsubj:FBest[$m,$s,$a] cop:Aux[be,pres,n] Name[$o] | nsubj:FS[$m,$s,$a] V[trust,pres,$a] obj:Name[$o] advmod:"most"
FBest[$m,$s,$a] -> nmod:poss:FPoss[$m,$s,$a] amod:"best"/ADJ "friend"/NOUN
Fact[$m,club,$s,$o,$a] -> nsubj:FS[$m,$s,$a] V[belong,pres,$a] obl:ToClub[$o] | nsubj:FS[$m,$s,$a] cop:Aux[be,pres,$a] det:"a" "member"/NOUN nmod:OfClub[$o]
ToClub[$o] -> case:"to" det:"the" Club[$o]
OfClub[$o] -> case:"of" det:"the" Club[$o]
Fact[$m,day,$s,$o,$a] -> nsubj:TheOne[$s] cop:Aux[be,pres,n] case:"on" Day[$o] | obl:tmod:Every[$o] expl:"there"/PRON V[be,pres,n] nsubj:AnX[$s] | V[come,base,y] obl:ToThe[$s] obl:OnDay[$o]
TheOne[$s] -> det:"the" One[$s]
Every[$o] -> det:"every" Day[$o]
OnDay[$o] -> case:"on" Day[$o]
Fact[$m,held_at,$s,$o,$a] -> nsubj:TheOne[$s] V[take,pres,n] obj:"place"/NOUN obl:AtThe[$o] | nsubj:TheOne[$s] aux:pass:Aux[be,pres,n] "held"/VERB/hold obl:AtThe[$o]
Fact[$m,located,$s,$o,$a] -> nsubj:TheOne[$s] V[stand,pres,n] obl:On[$o] | expl:"you"/PRON aux:"will" "find"/VERB obj:TheOne[$s] obl:On[$o]
"""
