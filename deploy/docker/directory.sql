create database directory;
