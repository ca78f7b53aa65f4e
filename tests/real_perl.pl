# A node of AnyEvent::MP 2.02 for tests: real_perl.pl CONFIGURATION [CODE]
#
# CONFIGURATION is what `configure` gets, as a JSON array; CODE is evaluated before. Each line of standard input is a JSON
# array [id, code]: the code is evaluated here, and standard output gets the line ["answer", id, error, results...]. `report`
# writes a line of its own. The end of standard input ends the program.

use common::sense;
use AnyEvent;
use AnyEvent::MP;
use AnyEvent::MP::Kernel;
use JSON::XS ();

$| = 1;

our %kept; # whatever a scene wants to keep: ports, guards, names
my $json = JSON::XS->new->utf8->allow_nonref->canonical->allow_blessed;

sub report {
   print $json->encode ([@_]), "\n";
}

# a port that reports all that it gets, as [$name, @message]
sub reporter {
   my ($name) = @_;
   port { report $name, @_ }
}

# for spawns: tells of its start, then of each message
sub started {
   my @args = @_;
   report started => $SELF, @args;
   rcv $SELF, sub { report spawned => @_ };
}

# for spawns: handlers that answer, set in the function that was spawned
sub answering {
   rcv $SELF,
      ping => sub { my ($reply, $number) = @_; snd $reply, pong => $number },
   ;
}

my ($configuration, $code) = @ARGV;
if (length $code) {
   eval "$code; 1" or die $@;
}
configure @{ $json->decode ($configuration) };

my $input = "";
my $reading = AE::io *STDIN, 0, sub {
   sysread STDIN, $input, 65536, length $input
      or exit 0;
   while ($input =~ s/^([^\n]*)\n//) {
      my ($id, $source) = @{ $json->decode ($1) };
      my @results = eval $source;
      report answer => $id, "$@", @results;
   }
};

report ready => $NODE, @$AnyEvent::MP::Kernel::BINDS;
AE::cv->recv;
