# fish completion for jail(8), which is asked what may stand next.
function __jail_complete
    set -l words (commandline -opc)
    set -l lines (jail complete $words[2..] (commandline -ct) 2>/dev/null)
    test (count $lines) -gt 1; and printf '%s\n' $lines[2..]
    if test "$lines[1]" = :files
        __fish_complete_path (commandline -ct)
    end
end
complete -c jail -f -a '(__jail_complete)'
complete -c jail-init -f -a '(__jail_complete)'
