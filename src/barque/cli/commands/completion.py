"""`barque completion SHELL`: the script that a shell loads to complete our command lines."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "bash|zsh|fish"
SUMMARY = "Print the completion script of a shell"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = ()
ARGUMENTS = (1, 1)

BASH = r"""# bash completion for barque: source <(barque completion bash)
_barque() {
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}") line last=":nothing"
    # Bash splits at = and :, the command does not.
    local cut="" whole="${COMP_LINE:0:COMP_POINT}"
    whole="${whole##*[[:space:]]}"
    if [[ -n "$whole" && "$whole" != "${COMP_WORDS[COMP_CWORD]}" ]]; then
        cut="${whole%"${whole##*[=:]}"}"
        local head="${COMP_LINE:0:COMP_POINT-${#whole}}"
        read -ra words <<<"$head"
        words=("${words[@]:1}" "$whole")
    fi
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ "$line" == :* ]]; then last="$line"; else
            line="${line%%$'\t'*}"
            COMPREPLY+=("${line#"$cut"}")
        fi
    done < <("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null)
    if [[ "$last" == ":files" ]]; then compopt -o default 2>/dev/null; fi
}
complete -F _barque barque
"""
ZSH = r"""#compdef barque
# zsh completion for barque: source <(barque completion zsh)
_barque() {
    local line last=":nothing"
    local -a candidates
    for line in "${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        if [[ "$line" == :* ]]; then last="$line"; continue; fi
        line="${line//:/\\:}"
        candidates+=("${line/$'\t'/:}")
    done
    (( $#candidates )) && _describe -V 'barque' candidates
    [[ "$last" == ":files" ]] && _files
}
if [ "$funcstack[1]" = "_barque" ]; then _barque; else compdef _barque barque; fi
"""
FISH = r"""# fish completion for barque: barque completion fish | source
function __barque_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] __complete -- $words[2..] 2>/dev/null)
    for line in $found
        switch $line
            case ':files'
                __fish_complete_path (commandline -ct)
            case ':*'
            case '*'
                echo $line
        end
    end
end
complete -c barque -f -a '(__barque_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def run(session: Session, options: Options, arguments: list[str]) -> int:
    (shell,) = arguments
    if shell not in SCRIPTS:
        raise errors.InvalidArgument(f"shell {shell!r}: one of {', '.join(SCRIPTS)} is known")
    terminal.out(SCRIPTS[shell])
    return 0
