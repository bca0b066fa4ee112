"""Animated objects of Objaverse 1.0.

selection     which objects, by what is written about them
licences      what each licence permits
downloading   objects to a folder
records       the tables and credits of that folder
package       the one module that imports the package `objaverse`
"""
