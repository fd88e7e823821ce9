#!/usr/bin/perl
# An application that is ready at once: it listens on --host and --port (0: any), says wslink's
# ready line, without a newline as wslink does, and accepts for ever. Perl, because it starts in a
# few milliseconds: what is measured is the launcher and not the application.
use strict;
use warnings;
use Socket;

my %option = (@ARGV, '--host' => '127.0.0.1');
my $tcp = getprotobyname('tcp') // 6;
socket(my $listener, PF_INET, SOCK_STREAM, $tcp) or die "socket: $!\n";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1) or die "setsockopt: $!\n";
bind($listener, sockaddr_in($option{'--port'}, inet_aton($option{'--host'}))) or die "bind: $!\n";
listen($listener, 16) or die "listen: $!\n";
$| = 1;
print 'Starting factory';
while (accept(my $client, $listener)) { close $client }
