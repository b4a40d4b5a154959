"""Two jobs."""

from workshop import work

for job, tool in (("shelf", "saw"), ("shelf", "drill"), ("bench", "plane")):
    work(job, tool)
