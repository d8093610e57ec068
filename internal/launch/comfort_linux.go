package launch

import (
	"fmt"
	"strings"

	"jail/internal/hostfiles"
	"jail/internal/jail"
	"jail/internal/rootfs"
	"jail/internal/sys"
	"jail/internal/wire"
)

// comforts fills in what a jail follows the host in.
func (l *Launcher) comforts(s *wire.Setup, spec *jail.Spec) {
	s.EnvAccept = spec.EnvAccept
	switch {
	case spec.OwnResolver || l.resolver < 0 || covers(spec, rootfs.ResolvConf):
	case l.rootless:
		s.Resolver, s.ResolverPath = wire.ResolverByPath, l.resolverPath
	default:
		s.Resolver = wire.ResolverTree
	}
	s.Hosts = !spec.OwnHosts && !covers(spec, rootfs.Hosts)
	if spec.Timezone != jail.OwnTimezone {
		z := hostfiles.ReadZone(spec.Timezone)
		s.Zone, s.ZoneRule, s.ZoneSum = z.Name, z.Rule, z.Sum
	}
}

// covers reports whether a mount of the registry decides what is at path.
func covers(spec *jail.Spec, path string) bool {
	for _, m := range spec.Mounts {
		if m.Target == path || strings.HasPrefix(path, m.Target+"/") {
			return true
		}
	}
	return false
}

// resolverTree clones the resolver's file. Its ids are not mapped: it is root's on
// the host, nobody's in a user namespace, and for everybody to read.
func (l *Launcher) resolverTree() (int, error) {
	tree, err := sys.OpenTree(l.resolver, "", sys.OpenTreeClone|sys.AtEmptyPath)
	if err != nil {
		return -1, fmt.Errorf("clone %s: %w", l.resolverPath, err)
	}
	attr := uint64(sys.MountAttrRdonly | sys.MountAttrNosuid | sys.MountAttrNodev | sys.MountAttrNoexec)
	if err := sys.MountSetattr(tree, attr, -1, false); err != nil {
		sys.Close(tree)
		return -1, fmt.Errorf("set mount attributes of %s: %w", l.resolverPath, err)
	}
	return tree, nil
}
