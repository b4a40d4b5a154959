"""Three days."""

from diary import write

for topic, text in (("rain", "it rained"), ("rain", "it rained again"), ("sun", "no rain at all")):
    write(topic, text)
