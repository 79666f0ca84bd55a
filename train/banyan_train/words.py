"""The words of the planted facts: each is one token of the demo vocabulary (with its leading space)."""

KEYS = """
falcon eagle raven robin sparrow heron swan goose duck owl hawk crane tiger lion bear wolf fox rabbit badger otter
beaver horse donkey camel goat sheep cow bull deer moose whale dolphin shark salmon trout crab lobster turtle snake
lizard frog spider beetle butterfly ant bee oak pine maple cedar birch willow elm ash rose lily tulip daisy orchid
fern moss clover ivy harbour river mountain valley island forest meadow desert canyon glacier castle tower bridge
temple palace garden market station library museum school hospital theatre bakery window door table chair lamp mirror
clock piano violin guitar drum trumpet anchor compass engine wheel ladder hammer needle basket bottle candle lantern
ship train wagon bicycle rocket planet comet moon winter summer autumn spring
""".split()

VALUES = """
violet crimson scarlet amber golden silver copper bronze purple orange yellow green blue red black white grey brown
pink ivory ruby emerald sapphire diamond pearl crystal marble granite velvet silk cotton linen wool leather paper
glass iron steel lead tin cobalt nickel salt sugar honey butter bread cheese apple cherry lemon melon peach pear plum
grape berry olive almond walnut ginger pepper mint thunder lightning rain snow storm cloud shadow sunset morning
midnight north south east west seven eleven twelve twenty forty hundred thousand million London Paris Rome Berlin
Madrid Vienna Cairo Tokyo Lisbon Dublin Athens Oslo Monday Tuesday Friday Sunday March April June July king queen
knight bishop pilot doctor teacher sailor farmer painter soldier hunter happy quiet gentle brave clever
""".split()
