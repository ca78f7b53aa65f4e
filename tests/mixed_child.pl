# A node of AnyEvent::MP 2.02 of a mixed network, for tests/mixed_network.py: mixed_child.pl NODE_ID BIND SEED...
#
# It does what tests/mixed_child.py does, and is talked to in the same way; `framing` is the one that it offers.

use common::sense;
use AnyEvent;
use AnyEvent::MP;
use JSON::XS ();

$| = 1;

my ($node, $bind, @seeds) = @ARGV;
my $json = JSON::XS->new->utf8->allow_nonref->canonical;
my (%seen, @kept);

sub begin {
   my ($setup) = @_;
   configure
      norc => 1, nodeid => $node, binds => [$bind], seeds => \@seeds,
      secret => $ENV{GMP_SECRET}, framing_format => [$setup->{framing}];
   my $port = port { };
   push @kept, db_reg $_ => $port for @{ $setup->{groups} };
   for my $name (@{ $setup->{watched} }) {
      push @kept, db_mon $name => sub { $seen{$name} = [sort keys %{ $_[0] }] };
   }
   print $json->encode ($port), "\n";
}

my ($input, $begun) = "";
my $reading = AE::io *STDIN, 0, sub {
   sysread STDIN, $input, 65536, length $input
      or exit 0;
   while ($input =~ s/^([^\n]*)\n//) {
      if ($begun++) {
         print $json->encode (\%seen), "\n";
      } else {
         begin ($json->decode ($1));
      }
   }
};

AE::cv->recv;
