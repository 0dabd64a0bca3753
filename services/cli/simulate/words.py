"""Words that the corpus does not have: invented names, one-word replies and openers, and what may stand for what."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.strip().splitlines())


FIRST_NAMES = _words(
    """
    Ana Bea Cleo Dan Eva Finn Gus Hana Ivo Jon Kit Lena Max Nia Omar Pia Rui Sam Tess Uma Vic Wes Yara Zoe Ada Ben Cara
    Dora Eli Flo Gwen Hugo Ida Jo Kai Lou Mia Ned Olga Pat Rosa Sol Tom Una Vera Will Xenia Yusuf Zita Amir Bo Chidi
    Divya Emre Farah Goran Hilde Imran Jana Kofi Leila Marek Noor Oskar Priya Quinn Ravi Sanne Tariq Ugo Viola Wanda
    Yuki Zola Aiko Bram Carmen Diego Elif Femi Greta Hassan Ines Jamal Keiko Lars Maya Nils Orla Paulo Rania Stefan
    Thandi Ulla Vikram Winnie Yosef Zainab Arlo Britt Colm Dele Enzo Freya Gita Heidi Ilse Joao Kirsten Luca Mina Nuno
    """
)
HOBBIES = _words("moss river paints bakes walks maps tunes plots knits climbs reads pedals roams cooks films sows")
FIRMS = _words("Otter Maple Harbour Lantern Quarry Meadow Signal Thistle Anchor Birch Copper Juniper Ridge Willow")
TRADES = _words("Parcels Bank Outfitters Pharmacy Telecom Bikes Books Energy")
CLUBS = _words("Choir Runners Chess Rowing Allotments Readers Climbers Quilters")
BRANDS = _words("growth media coach official daily hub vip studio")

OPENERS = _lines(
    """
hey
hi
hello
hey 😊
hii
yo
hiya
heyy
hi there
hello dear
hru
wyd
sup?
"""
)
REFUSALS = _lines(
    """
stop
who is this?
no thanks
not interested
do I know you?
please don't message me
??
"""
)
SHORT_REPLIES = _words(
    """
    ok thanks thx lol yes no sure 👍 ❤️ 😂 hey hi hello haha great same perfect omw nice yep np cool ty 🙏 k wow
    brilliant deal done agreed exactly true
    """
) + _lines(
    """
on my way
ok see you then
thank you!
no worries
sounds good
talk later
happy birthday!
love it
me too
good morning
good night
call you in 5
let me check
will do
all good here
haha true
"""
)
BIRTHDAY = "happy birthday!"
NEW_NUMBER = _lines(
    """
Hi {name}, it's {me}. New number from today: {number}. Please delete the old one
{name}! {me} here, lost my phone so this is me now: {number}. Save it x
hey {name} its {me}, changed provider and they couldnt keep my number. new one is {number}
Hello {name}, {me} here. My number has changed to {number}, the old one stops working on Friday. Love to all
"""
)

SYNONYMS = {
    word: _words(others)
    for word, _, others in (
        line.partition(": ")
        for line in _lines(
            """
hi: hello hey
hello: hi hey
hey: hi hello
great: lovely good brilliant
good: nice fine great
really: truly honestly
very: really so
just: only simply
want: need wish
like: enjoy fancy
saw: noticed spotted
think: believe reckon
get: receive grab
got: received grabbed
start: begin launch
new: fresh recent
people: folks users
money: cash income
job: role gig
page: profile account
account: profile page
love: adore like
amazing: awesome stunning
awesome: amazing superb
thanks: cheers thx
please: pls kindly
also: too plus
maybe: perhaps possibly
quick: short brief
send: drop message
best: top finest
more: extra further
big: huge large
looking: searching hunting
still: yet even
a: one some
if: when once
about: on regarding
but: yet though
earn: make gain
daily: weekly nightly
help: assist support
business: company brand
friend: mate buddy
"""
        )
    )
}
