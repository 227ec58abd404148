"""What happens to lshjoin when files are changed, arrays are odd, or a process is killed.

`make reliability` runs `hostile`, `arrays` and `kills`; docs/reliability.md says what is promised.
`hostile` uses changed `indexes`, `plans` and `models`, each in one of the `children`: processes
whose memory and time are limited. `mutations` are the changes that all of them share.
"""
